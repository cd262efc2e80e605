"""What stays on disk, written and read in one place; without torch."""
