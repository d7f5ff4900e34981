"""Built-in runners, one plugin a file."""
