"""Networks around a pattern, and what they cost."""
