"""Worker processes: the parent side supervises them, the child side runs the models.

Child-side modules (`process`, `engine_thread`, `engine/`, `handlers/`) are the only ones that may lead to MLX.
"""
