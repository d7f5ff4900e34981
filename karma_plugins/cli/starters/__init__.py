"""What `karma new-plugin` writes: for each kind a module that works and its tests, `@NAME@` for its name."""
