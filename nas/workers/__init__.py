"""Who trains: this process, or the workers of a Ray cluster."""
