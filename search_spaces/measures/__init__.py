"""Measures of a pattern: named functions of where its connections lie."""
