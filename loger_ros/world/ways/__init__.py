"""How a camera or a robot goes through a place."""
