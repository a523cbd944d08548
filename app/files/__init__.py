"""Files that clients keep here: rows in SQLite, and what they hold beside it on disk."""
