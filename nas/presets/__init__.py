"""The papers' networks and training recipes, by name."""
