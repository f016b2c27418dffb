"""Papers that compare rather than train: recipes x evaluators -> a table."""
