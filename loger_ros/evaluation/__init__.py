"""How good a trajectory is."""
