"""MLX-GUI's endpoints: models, settings, the hub and the system."""
