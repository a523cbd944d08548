"""From a downloaded folder to a model that the registry knows by its name."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from mlx_server.app.catalog.model_folder import read_model
from mlx_server.app.hub.download import Download
from mlx_server.app.registry.registry import Registry
from mlx_server.app.registry.rows import ModelRow
from mlx_server.app.registry.scanning import Candidate, described, stamp_of
from mlx_server.workers.folders.model_files import NotAModel
from mlx_server.workers.hub.errors import HubError


class NameTaken(HubError):  # noqa: N818 - named for the fact
    """Raised when another model has the name that a new one should get."""

    def __init__(self, row: ModelRow) -> None:
        super().__init__(
            f"{row.name!r} is already the name of {row.hub_id or row.path}: choose another one, or remove that model."
        )


class Installer:
    """Enters downloaded models into the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def check(self, name: str, hub_id: str) -> None:
        """Whether a model may get this name. Raises NameTaken."""
        row = await self._registry.model(name)
        if row is not None and row.hub_id != hub_id:
            raise NameTaken(row)

    async def is_whole(self, name: str, hub_id: str) -> bool:
        """Whether the model of this name is that repository's, and all of its files are here."""
        row = await self._registry.model(name)
        if row is None or row.hub_id != hub_id or row.path is None:
            return False
        return await asyncio.to_thread(is_whole, Path(row.path))

    async def install(self, name: str, hub_id: str, folder: Path) -> ModelRow:
        """Enter a model; one of that name and repository is entered anew. Raises NameTaken, or HubError for a folder
        that holds no model, or InvalidRequest for what is no name.
        """
        await self.check(name, hub_id)
        row = await self._registry.model(name) or ModelRow(name=name)
        try:
            found, stamp = await asyncio.to_thread(lambda: (read_model(folder), stamp_of(folder)))
        except NotAModel as error:
            raise HubError(str(error)) from None
        return await self._registry.save(described(row, Candidate(folder, name, hub_id), found, stamp))

    async def installed(self, download: Download) -> None:
        """What `Downloads` calls for a folder that is whole. Raises what `install` raises, and HubError where the
        registry can't be used."""
        assert download.folder is not None
        name, hub_id = download.row.name, download.row.hub_id
        try:
            await self.install(name, hub_id, download.folder)
        except sqlite3.Error as error:
            raise HubError(f"{hub_id} is downloaded, but the registry does not take it as {name!r}: {error}.") from None


def is_whole(path: Path) -> bool:
    """Whether this folder or .gguf file can be read as a model, and no file of it is a link to one that is gone."""
    try:
        read_model(path)
        return all(file.exists() for file in path.rglob("*"))
    except (NotAModel, OSError):
        return False
