"""Patterns that meet a budget: drawn, annealed, proven shortest, laid out for a study."""
