"""What handlers of MLX models share. Everything here may load MLX; nothing outside the worker may import it.

Letters in shapes of arrays: B rows of a batch, R rows of any kind, K items of any kind, T tokens of one sequence, L
tokens of a batch's longest row, padding included, V the vocabulary, which is the width of logits, D the size of a
vector, H and W the height and width of a picture, C its colours, N its patches. "..." stands for any axes, 1 for a
single row. Token ids are integers, logits have the model's float dtype, and log-probabilities are in nats.
"""
