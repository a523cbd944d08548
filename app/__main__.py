"""`python -m mlx_server.app`: the same as the `mlx-server` command."""

from mlx_server.app.cli import main

main()
