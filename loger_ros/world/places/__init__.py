"""Where the camera goes: floor plans, what stands in them, how they are lit."""
