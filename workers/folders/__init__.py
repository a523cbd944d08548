"""A model's files on disk, read and judged without MLX: the front end and the worker ask the same."""
