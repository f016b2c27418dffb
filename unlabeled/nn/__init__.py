"""Parts with parameters or state."""
