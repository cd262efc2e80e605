"""What to take for a depth and budget, ranked by what the committed studies support."""
