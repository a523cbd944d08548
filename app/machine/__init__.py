"""What the machine reports of itself, without MLX: None where it reports nothing, never a guess."""
