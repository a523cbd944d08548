"""Kokoro, a model that speaks, from a graph of ONNX whose weights are quantised, as the folder that mlx-audio reads."""
