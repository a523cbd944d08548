"""What a .gguf file says beside its weights, in the files of an MLX folder; gguf2mlx converts the weights."""
