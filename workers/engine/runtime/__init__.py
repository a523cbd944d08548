"""MLX on this machine: what it is asked, and quick functions in the place of slow ones."""
