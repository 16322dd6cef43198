"""The network: torch and nothing else. Nothing here imports from above (stream, ros, ...)."""
