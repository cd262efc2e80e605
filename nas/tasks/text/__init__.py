"""Prediction of the next character of a text by a transformer around a pattern."""
