"""Questions that need no data."""
