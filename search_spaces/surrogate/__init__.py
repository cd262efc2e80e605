"""A Gaussian model of what trainings cost, given measures of their patterns, and what to choose by it."""
