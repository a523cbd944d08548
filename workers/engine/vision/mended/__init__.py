"""Workarounds: models that mlx-vlm's classes (0.7.10) can't read as transformers 5 saves them, or compute otherwise."""
