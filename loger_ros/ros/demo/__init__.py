"""The demo: a synthetic camera and the node, as two processes over DDS, and their results."""
