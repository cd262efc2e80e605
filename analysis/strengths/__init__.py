"""How strongly trained networks use each connection."""
