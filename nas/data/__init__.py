"""Data sets of images, with labels for images or for pixels: readers and splits."""
