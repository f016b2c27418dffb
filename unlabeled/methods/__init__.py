"""One paper, one file: the class if it adds an algorithm, and its recipes."""
