"""The study's statistics on any table."""
