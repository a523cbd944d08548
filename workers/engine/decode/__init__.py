"""Prompts are read and tokens are decoded: which sequences, in which order, how many together. Engine thread only."""
