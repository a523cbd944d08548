"""The front end: HTTP in, queue, worker events out. Nothing here may load MLX."""

__version__ = "0.1.0"
