"""The layouts that `karma export` knows, one a module, each a plugin."""
