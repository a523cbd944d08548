"""Batches: requests of a file that are answered with the rows that nobody else wants, whatever dies meanwhile."""
