"""Pairs of a query and a document, judged by a model. Engine thread only."""
