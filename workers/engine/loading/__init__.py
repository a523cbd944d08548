"""From a model's folder to a model that computes what it was trained to. Engine thread, once per load."""
