"""`python lone_parent.py SCRIPT`: starts a scripted worker on a script, says its process id, and waits to be killed.

With `--deaf` it stops reading once the worker has produced something.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.parent.supervisor import Supervisor


class LoneParent:
    """A listener that has no queue."""

    def __init__(self, script: str, *, deaf: bool) -> None:
        self._request = GenerationRequest((TextPrompt(script),), 1 << 30)
        self._deaf = deaf
        self._told = False
        self.worker = Supervisor(Load("scripted", "scripted", 1, 512, "/dev/null/nowhere"), self, log_level="error")

    @property
    def idle(self) -> bool:
        return False

    def loading(self, loading: Any) -> None:
        if self._request.prompts[0] == TextPrompt("while loading"):
            self._tell()

    def ready_with(self, facts: Any) -> None:
        self.worker.submit(1, self._request, 1, None)
        if self._request.prompts[0] == TextPrompt(""):
            self._tell()

    def deliver(self, events: Any) -> None:
        self._tell()
        if self._deaf:
            threading.Event().wait()

    def answered(self, number: int, answer: Any) -> None:
        raise AssertionError(answer)

    def lost(self, message: str) -> None:
        raise AssertionError(message)

    def given_up(self, message: str) -> None:
        raise AssertionError(message)

    def _tell(self) -> None:
        if not self._told:
            print(self.worker.pid, flush=True)
            self._told = True


async def main() -> None:
    """Run until killed."""
    await LoneParent(sys.argv[1], deaf="--deaf" in sys.argv).worker.run()


if __name__ == "__main__":
    asyncio.run(main())
