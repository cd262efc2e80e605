"""Several blocks and what passes between them; arc diagrams."""
