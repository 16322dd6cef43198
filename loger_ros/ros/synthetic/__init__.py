"""A camera node that plays a procedural world, with the truth beside it."""
