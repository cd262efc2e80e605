"""Documents, the style of figures, and words."""
