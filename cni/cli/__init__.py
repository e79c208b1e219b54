"""The operator's command, `plexus`."""
