"""The last response of a connection, which can be gone on from there though nobody stored it."""

from __future__ import annotations

import msgspec

from mlx_server.schemas.openai.responses_items import Item

MEMORY = "mlx_server.response_memory"
"""Where a request's scope has the memory of the connection that it came over, if that has one."""

WARM_UP = "mlx_server.warm_up"
"""Where it says that the prompt is to be read and nothing to be written."""


class ResponseMemory:
    """Knows one conversation of at most `max_bytes`: each response takes the place of the one before."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._last: tuple[str, tuple[Item, ...]] | None = None

    def take(self, id_: str) -> tuple[Item, ...] | None:
        """All that was said up to that response and in it. Whoever fails to go on from there can't try again."""
        if self._last is None or self._last[0] != id_:
            return None
        items, self._last = self._last[1], None
        return items

    def remember(self, id_: str, items: tuple[Item, ...]) -> None:
        """Remember a response by all that was said."""
        fits = len(msgspec.json.encode(items)) <= self._max_bytes
        self._last = (id_, items) if fits else None
