"""A finished run as a folder that people and programs read."""
