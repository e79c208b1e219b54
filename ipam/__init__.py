"""IP address management: host-local."""
