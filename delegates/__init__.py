"""The built-in plugins that make an interface: bridge and veth."""
