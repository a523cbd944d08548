"""A process of its own, `download_process AUTHOR/NAME [--force]`: downloads a model, in a process that may be killed.

It says how far it is in lines of JSON on its standard output, and ends when its standard input does: whoever started
it is gone then. The hub is reached as the environment says.
"""

from __future__ import annotations

import os
import sys
from threading import Thread

from mlx_server.app.hub.download_messages import Arrived, FromFetch, Refused, Whole, encoder
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import HubError
from mlx_server.workers.hub.snapshot import fetch


def main() -> None:
    """Download, and say how it went."""
    # What libraries print goes where the log goes.
    output = os.dup(1)
    os.dup2(2, 1)
    Thread(target=end_with_parent, daemon=True).start()

    def say(message: FromFetch) -> None:
        os.write(output, encoder.encode(message) + b"\n")

    repo_id, *options = sys.argv[1:]
    try:
        folder = fetch(
            repo_id,
            HubAccess.from_environment(),
            lambda done, total: say(Arrived(done, total)),
            force="--force" in options,
        )
    except HubError as error:
        say(Refused(str(error)))
    else:
        say(Whole(str(folder)))


def end_with_parent() -> None:
    """What has arrived stays; the next one goes on from there."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
