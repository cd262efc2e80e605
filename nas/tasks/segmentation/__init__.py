"""Segmentation of images by a pyramid around a pattern."""
