"""What a study concludes of each declared measure, by rules written down before."""
