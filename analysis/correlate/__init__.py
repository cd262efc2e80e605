"""The statistics of a study, for any table."""
