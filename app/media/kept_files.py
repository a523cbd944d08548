"""Files that clients keep here, where a request names one by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import to_thread

from mlx_server.app.media.inline import bounded
from mlx_server.app.media.problem import MediaProblem, TooLarge

if TYPE_CHECKING:
    from mlx_server.app.files.file_store import FileStore


async def read_kept(files: FileStore | None, id_: str, owner: str, most_bytes: int) -> bytes:
    """What a file of this owner's holds. Raises MediaProblem."""
    found = await files.get(id_, owner) if files is not None else None
    if files is None or found is None:
        raise MediaProblem(f"there is no file {id_[:200]!r}")
    if found.size > most_bytes:
        raise TooLarge(most_bytes)
    try:
        return bounded(await to_thread.run_sync(files.path(id_).read_bytes), most_bytes)
    except FileNotFoundError:
        raise MediaProblem(f"the file {id_!r} was deleted meanwhile") from None
