"""The demo: a camera that does not exist and the node, as two processes over DDS, and what comes of it."""
