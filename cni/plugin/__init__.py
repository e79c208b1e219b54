"""The plugin side of the protocol: be called, call others, undo, remember."""
