"""What runs on a node: the launchers, and the agent that installs and configures them."""
