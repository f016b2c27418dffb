"""Methods that learn from what agents do."""
