"""What was asked for, checked, and what it means on this machine."""
