"""Recordings, runs of them, reports and exports; and how good a model is."""
