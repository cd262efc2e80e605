"""A planned study, networks side by side, and the final measurement."""
