"""All findings as one page."""
