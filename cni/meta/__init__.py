"""The meta plugin: every network that a pod asks for, through delegates."""
