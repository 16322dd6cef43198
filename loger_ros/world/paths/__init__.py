"""How a camera or a robot moves through a place."""
