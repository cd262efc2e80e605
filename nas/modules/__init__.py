"""The operations of layouts as torch modules."""
