"""Repositories of the Hugging Face hub: how their files come into the hub's own cache."""
