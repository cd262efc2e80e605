"""Search strategies, replayed on a table of all patterns."""
