"""The `mlx-server` command, and `python -m mlx_server.app`. A server's first worker process begins before its flags are
read."""

from __future__ import annotations

import contextlib
import sys

from mlx_server.workers.parent.environment import usable_cores
from mlx_server.workers.parent.starts import WorkerStarts

HELP = {"-h", "--help"}


def main() -> None:
    """The `mlx-server` command."""
    with WorkerStarts() as starts:
        if sys.argv[1:2] == ["launch"] and not HELP.intersection(sys.argv):
            with contextlib.suppress(OSError):  # which is told when it can't be started later either
                starts.begin(usable_cores())
        # It takes a quarter of a second: the worker's own imports are done meanwhile.
        from mlx_server.app.cli.cli import app

        app(obj=starts)


if __name__ == "__main__":
    main()
