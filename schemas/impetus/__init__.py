"""Impetus' endpoints below `/api/`, and what its listeners are told."""
