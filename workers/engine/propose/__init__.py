"""Tokens that are likely next, so that the model checks several in one step. Engine thread only."""
