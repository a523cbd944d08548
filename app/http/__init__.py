"""From requests to bytes, whatever the API: bodies, heads, errors, and the loop that answers."""
