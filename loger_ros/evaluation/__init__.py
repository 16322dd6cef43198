"""Recordings, runs on them, reports and exports; and tests of how good a model is."""
