"""What one training is: images, text, a user's own task."""
