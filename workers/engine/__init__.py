"""What handlers of MLX models share. Everything here may load MLX; nothing outside the worker may import it."""
