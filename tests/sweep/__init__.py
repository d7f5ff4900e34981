"""Every command and stage against odd input: one clear line or success; no traceback, no hang, no silence."""
