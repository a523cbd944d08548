"""What a folder says that nobody reads: answers may differ from what its authors meant. Any thread; without MLX."""
