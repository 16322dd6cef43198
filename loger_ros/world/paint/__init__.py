"""What surfaces look like: families of procedural textures, packed for the renderer."""
