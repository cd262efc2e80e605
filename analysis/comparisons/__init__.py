"""Networks side by side, and the final measurement on test images."""
