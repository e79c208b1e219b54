"""What runs on a node: the launchers."""
