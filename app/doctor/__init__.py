"""What is right and wrong with a machine, before a model is served on it."""
