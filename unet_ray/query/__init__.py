"""Questions in SQL to a published table."""
