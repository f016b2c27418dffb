"""Methods that learn from images."""
