"""A process of its own: the same as the `mlx-server` command."""

from mlx_server.app.cli.cli import main

main()
