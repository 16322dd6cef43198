"""Turns placed chunks into clouds, maps and files."""
