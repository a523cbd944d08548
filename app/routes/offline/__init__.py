"""Files, and work on them that can wait."""
