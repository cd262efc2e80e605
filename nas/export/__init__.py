"""A pattern as files that prove themselves."""
