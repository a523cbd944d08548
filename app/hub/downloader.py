"""The parent side of the process that downloads."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import assert_never

from mlx_server.app.hub.download_messages import Arrived, Refused, Whole, decoder
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import HubError

MODULE = "mlx_server.app.hub.download_process"

Report = Callable[[int, int], Awaitable[None]]
"""Is told how many bytes of how many are here."""


class FetchDied(HubError):  # noqa: N818 - named for the fact
    """Raised when the process that downloads ended without a word."""

    def __init__(self, repo_id: str, code: int) -> None:
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        super().__init__(f"The process that downloads {repo_id} {how}. Start again to go on.")


async def fetch(repo_id: str, access: HubAccess, report: Report, *, force: bool = False) -> Path:
    """The folder with a model, downloaded in a process of its own; who is cancelled kills it. Raises HubError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", MODULE, repo_id, *(["--force"] if force else [])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **access.environment()},
            # Ctrl-C is for the server, which ends it by closing its input.
            start_new_session=True,
        )
    except OSError as error:
        raise HubError(f"A process to download {repo_id} can't be started: {error.strerror}.") from None
    try:
        folder = await listen(process, report)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    if folder is None:
        raise FetchDied(repo_id, code)
    return folder


async def listen(process: asyncio.subprocess.Process, report: Report) -> Path | None:
    """What it says, until it ends: the folder, if it comes to that. Raises HubError if it says so."""
    assert process.stdout is not None
    folder = None
    async for line in process.stdout:
        match decoder.decode(line):
            case Arrived(done, total):
                await report(done, total)
            case Whole(path):
                folder = Path(path)
            case Refused(message):
                raise HubError(message)
            case unknown:
                assert_never(unknown)
    return folder
