"""What one pass over a model's weights computes. Engine thread only."""
