"""From tokens to the parts of an answer. Runs on the worker's event loop, and never loads MLX."""
