"""Pictures that were drawn, for who has their address: nobody can guess it, and it ends after an hour."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

LIFETIME_S = 3600.0
MOST_BYTES = 512 << 20
"""Of all that are kept, on disk; the oldest go."""

NAME_BYTES = 24


@dataclass(frozen=True, slots=True)
class LinkedPicture:
    """A picture's file; `ends_at` is on the clock of `time.monotonic`."""

    path: Path
    media_type: str
    size: int
    ends_at: float


class PictureLinks:
    """Those of one server, in a folder of their own. Event loop only."""

    def __init__(self, folder: Path, *, lifetime_s: float = LIFETIME_S, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._lifetime_s = lifetime_s
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, LinkedPicture] = OrderedDict()
        self._bytes = 0

    def keep(self, data: bytes, media_type: str) -> str:
        """The name under which a picture is found from now on."""
        name = secrets.token_urlsafe(NAME_BYTES)
        path = self._folder / name
        path.write_bytes(data)
        self._kept[name] = LinkedPicture(path, media_type, len(data), time.monotonic() + self._lifetime_s)
        self._bytes += len(data)
        self._drop_old()
        return name

    def find(self, name: str) -> LinkedPicture | None:
        """The picture of this name; None if there is none, or none any more."""
        self._drop_old()
        return self._kept.get(name)

    def _drop_old(self) -> None:
        now = time.monotonic()
        while self._kept:
            oldest = next(iter(self._kept.values()))
            if oldest.ends_at > now and (self._bytes <= self._most_bytes or len(self._kept) == 1):
                return
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.size
            gone.path.unlink(missing_ok=True)
