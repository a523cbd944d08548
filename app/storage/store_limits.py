"""How much is kept in a database, and for how long."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

AGED = ("DELETE FROM responses WHERE used < ?", "DELETE FROM conversations WHERE used < ?")
"""What is kept and forgotten as a whole; `used` is when it was last used, in seconds since the epoch."""
OLDEST = (
    ("SELECT used, rowid FROM responses ORDER BY used LIMIT 1", "DELETE FROM responses WHERE rowid = ?"),
    ("SELECT used, rowid FROM conversations ORDER BY used LIMIT 1", "DELETE FROM conversations WHERE rowid = ?"),
)
"""What was used least recently of each kind, and how it is forgotten."""


@dataclass(frozen=True)
class StoreLimits:
    """Beyond `max_bytes` what was used least recently goes; what was not used for `max_age_s` is gone."""

    max_bytes: int
    max_age_s: float
    clock: Callable[[], float]

    @property
    def oldest(self) -> float:
        """What was last used before that counts as gone."""
        return self.clock() - self.max_age_s

    def evict(self, connection: sqlite3.Connection) -> None:
        """Forget what is beyond the limits."""
        for delete in AGED:
            connection.execute(delete, (self.oldest,))
        while bytes_used(connection) > self.max_bytes and forget_one(connection):
            pass


def forget_one(connection: sqlite3.Connection) -> bool:
    """Forget what was used least recently; tells whether there was anything."""
    found = [(*row, delete) for select, delete in OLDEST for row in connection.execute(select)]
    if not found:
        return False
    _, rowid, delete = min(found)
    connection.execute(delete, (rowid,))
    return True


def bytes_used(connection: sqlite3.Connection) -> int:
    """What the rows take, in pages."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
