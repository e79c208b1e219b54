"""IP address management: host-local and static."""
