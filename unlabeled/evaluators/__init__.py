"""Evaluators: what an encoder is worth, each with the id of its protocol."""
