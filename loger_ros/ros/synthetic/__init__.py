"""A camera node that plays a procedural world and publishes the truth with it."""
