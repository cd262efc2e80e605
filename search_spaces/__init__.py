"""Which patterns exist, and how far apart their layers are."""
