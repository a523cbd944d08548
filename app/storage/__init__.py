"""SQLite databases on threads of their own, with limits on what they keep."""
