"""Built-in objectives, one a module, each a plugin."""
