"""Texts as they come in: records of files, whatever layout they have, and JSON that nobody vouches for."""
