"""`python -m app.main --model-path …` from a checkout: takes the flags of `mlx-server launch`."""

import sys

from mlx_server.app.cli.cli import app


def main() -> None:
    """Launch, unless another command is named."""
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    names |= {str(group.name) for group in app.registered_groups}
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in names | {"--version", "--help", "-h"}:
        arguments = ["launch", *arguments]
    app(args=arguments, prog_name="python -m app.main")


if __name__ == "__main__":
    main()
