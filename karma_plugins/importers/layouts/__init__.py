"""The layouts that `karma import` knows, one a module, each a plugin."""
