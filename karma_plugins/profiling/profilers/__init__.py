"""Built-in profilers, one plugin a file."""
