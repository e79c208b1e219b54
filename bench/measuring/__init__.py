"""Ours and its peers at the same work: see bench/run."""
