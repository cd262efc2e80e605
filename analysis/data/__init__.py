"""A run as tables, what its plan declared, and whether it was kept."""
