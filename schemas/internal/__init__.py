"""Inside types: what is queued, and what goes between processes."""
