"""Where pods and NetworkAttachmentDefinitions come from, and where network-status goes."""
