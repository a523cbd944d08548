"""What is drawn in a terminal while it changes, and the keys that are pressed meanwhile."""
