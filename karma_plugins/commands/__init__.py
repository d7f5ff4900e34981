"""One file for each command of `karma`; each holds `command` and imports what is heavy where it is called."""
