"""Measures what the node costs beyond the network and how long it lasts, with the tools for that."""
