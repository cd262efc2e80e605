"""Which classes of pixels the networks of a segmentation find, in numbers and in pictures."""
