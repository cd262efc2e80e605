"""Networks around a pattern, what they cost, and the papers' networks."""
