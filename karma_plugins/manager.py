"""Where stages get their plugins: `manager.load()` is a fresh registry of built-ins and installed ones."""

from karma_plugins.registry.manager import load

__all__ = ["load"]
