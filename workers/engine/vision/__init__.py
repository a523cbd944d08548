"""Models that look at pictures: reading them with mlx-vlm, their inputs, and batched decoding."""
