"""A pattern's network as files that can be checked."""
