"""Other programs' configuration for a running server: what they need to know, and how it gets into their files."""
