"""Strategies replayed on a table of all patterns."""
