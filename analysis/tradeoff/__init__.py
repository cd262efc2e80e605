"""Accuracy against the number of connections."""
