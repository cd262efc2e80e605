"""Data sets of images: readers and splits."""
