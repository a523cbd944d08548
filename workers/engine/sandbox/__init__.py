"""Processes for what nobody vouches for: they can be killed."""
