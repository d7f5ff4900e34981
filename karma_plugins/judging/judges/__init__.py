"""Built-in judges, one to a file, each registered through the same hook as an outsider's."""
