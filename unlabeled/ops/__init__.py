"""Pure functions that have no gradient story of their own; gather is the one place with ranks."""
