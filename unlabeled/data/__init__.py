"""Data sources: everything between the disk and the first view."""
