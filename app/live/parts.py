"""What the live feed tells only those who ask for it: batches, downloads and the log's lines."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection

from starlette.requests import Request

from mlx_server.app.http.services import services
from mlx_server.app.routes.offline.batches import to_batch
from mlx_server.app.routes.stored_items import owner_of
from mlx_server.app.views.download_state import download_state
from mlx_server.schemas.impetus.models import DownloadState
from mlx_server.schemas.live import LogLines
from mlx_server.schemas.openai.stored.batches import Batch

MOST_BATCHES = 20

log = logging.getLogger(__name__)


class Parts:
    """What one listener has asked for by these names, of what its request may see."""

    def __init__(self, request: Request, names: Collection[str]) -> None:
        self._request = request
        self._names = names
        self._last_line = 0

    async def now(self) -> dict[str, object]:
        """Each part that there is by its name: of the log, what is new since the last time."""
        parts = {
            "batches": await self._batches() if "batches" in self._names else None,
            "downloads": await self._downloads() if "downloads" in self._names else None,
            "logs": self._logs() if "logs" in self._names else None,
        }
        return {name: part for name, part in parts.items() if part is not None}

    async def _batches(self) -> list[Batch] | None:
        """The last ones of the request's key; None where the store does not tell."""
        store = services(self._request).batches
        try:
            found = await store.page(owner_of(self._request), after=None, limit=MOST_BATCHES)
        except sqlite3.Error as error:
            log.error("the store does not tell of batches: %s", error)
            return None
        return [to_batch(self._request, batch) for batch in found or ()]

    async def _downloads(self) -> list[DownloadState]:
        return [download_state(one) for one in await services(self._request).downloads.everywhere()]

    def _logs(self) -> LogLines:
        told = services(self._request).recent_logs.after(self._last_line)
        self._last_line = told.last
        return told
