"""The words of the CNI specification as values: pure, no input or output."""
