"""Endpoints about models, settings and the machine: MLX-GUI's, Impetus' and our own."""
