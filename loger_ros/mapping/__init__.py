"""Placed chunks → clouds, maps and files."""
