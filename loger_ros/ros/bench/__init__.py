"""What the node costs beside the network, how long it lasts, and what that is measured with."""
