"""Methods that learn from speech."""
