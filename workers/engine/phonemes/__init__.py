"""Texts as phonemes, which models that speak are given."""
