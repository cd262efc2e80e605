"""Which pattern comes next, and the loop of a search."""
