"""Endpoints, one file per family; `server.py` has the table."""
