"""plexus, a meta CNI plugin: the protocol, the kernel, the pods and the command."""

__version__ = "0.1.0"
