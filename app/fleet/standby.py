"""The standby: one worker process that has imported everything and has no model yet, where there is memory for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.performance import Tuning
from mlx_server.app.deployment.process_memory import resident_bytes
from mlx_server.app.fleet.directory import Directory
from mlx_server.app.fleet.ledger import Ledger
from mlx_server.app.machine.memory import memory
from mlx_server.workers.parent.environment import usable_cores
from mlx_server.workers.parent.starts import Wanted, WorkerStarts
from mlx_server.workers.parent.supervisor import WorkerState

EXPECTED_BYTES = 128 << 20
"""What one takes, until it has been measured."""

SPARE_BYTES = 1 << 30
"""What the machine must have left for one to be started."""

BUSY_S = 2.0
"""So long it waits for a server without work; its imports take half a second of a core."""

RETRY_S = 60.0
"""Not sooner is one replaced that died by itself."""

UNSETTLED = (WorkerState.STARTING, WorkerState.LOADING, WorkerState.RESTARTING)

log = logging.getLogger(__name__)


class Standby:
    """Starts one whenever the last one was taken, or ends it. Models don't wait for its memory: the next load takes it
    over, and it goes where they have grown into it."""

    def __init__(self, starts: WorkerStarts, ledger: Ledger, directory: Directory, tuning: Tuning) -> None:
        self._starts = starts
        self._ledger = ledger
        self._directory = directory
        self._tuning = tuning
        self._not_before = 0.0
        self._missing_since: float | None = None
        self._bytes = EXPECTED_BYTES

    @property
    def pid(self) -> int | None:
        """Its process id, None while there is none."""
        return self._starts.standby_pid

    @property
    def memory_bytes(self) -> int:
        """What it occupies, as it was last measured; 0 while there is none."""
        return 0 if self.pid is None else self._bytes

    def look(self) -> None:
        """Start one or end it, if that is due."""
        now = asyncio.get_running_loop().time()
        wanted, types, settings = self._wanted(), self._types(), self._directory.settings
        if self._starts.buried():
            log.warning("the standby worker died; there is another one in %.0f s", RETRY_S)
            self._not_before = now + RETRY_S
        local = settings.standby and settings.cluster is None
        allowed = local and bool(types) and self._ledger.has_room(self._bytes)
        if self._unsettled() or (allowed and self._starts.fits(wanted)):
            self._missing_since = None
            return
        self._starts.close()
        if not allowed or now < self._not_before:
            return
        self._missing_since = since = now if self._missing_since is None else self._missing_since
        busy = any(one.busy for one in self._deployments())
        if (not busy or now - since >= BUSY_S) and memory().available_bytes >= SPARE_BYTES:
            self._bytes = EXPECTED_BYTES
            try:
                self._starts.ahead(wanted, *types)
            except OSError as error:
                log.warning("a standby worker can't be started: %s", error)
                self._not_before = now + RETRY_S

    def measure(self) -> None:
        """See what it occupies. Takes milliseconds."""
        pid = self.pid
        self._bytes = EXPECTED_BYTES if pid is None else resident_bytes(pid)

    def close(self) -> None:
        """End it."""
        self._starts.close()

    def _deployments(self) -> Sequence[Deployment]:
        return self._directory.deployments

    def _wanted(self) -> Wanted:
        settings = self._directory.settings
        return Wanted(self._tuning.threads(usable_cores()), settings.log_level, str(settings.cache_dir))

    def _types(self) -> list[str]:
        """Of the models that are known; a scripted one needs nothing to be imported."""
        return sorted({one.type for one in self._deployments()} - {"scripted"})

    def _unsettled(self) -> bool:
        """Models are being loaded or will be, which takes the standby, and the cores that imports would take; or this
        server ends."""
        return self._directory.closing or any(
            one.awaited or any(replica.state in UNSETTLED for replica in one.replicas) for one in self._deployments()
        )
