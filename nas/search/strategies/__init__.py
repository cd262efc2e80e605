"""Strategies that learn from outcomes, and all strategies by name."""
