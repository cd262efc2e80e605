"""How good a pattern is."""
