"""Embedding models that look at pictures: one module for what each family does in its own way."""
