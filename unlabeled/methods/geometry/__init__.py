"""Methods that learn the geometry of scenes."""
