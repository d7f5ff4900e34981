"""`python -m karma_plugins`, for where the script `karma` is not on the path."""

from karma_plugins.cli import main

main(prog_name="karma")
