"""A run directory in use: its lock, its ledger, and the jobs that are left."""
