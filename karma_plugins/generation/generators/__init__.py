"""Built-in generators, one plugin a file."""
