"""Function calls in a model's text, read while they are written: a file for each way of writing them."""
