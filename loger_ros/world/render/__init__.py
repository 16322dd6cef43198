"""The ray caster: from scenes and camera poses to colour, depth and a mask of what moves."""
