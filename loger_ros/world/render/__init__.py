"""The ray caster: scenes and camera poses in; colour, depth and the mask of what moves out."""
