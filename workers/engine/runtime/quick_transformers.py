"""A workaround: transformers (5.0 to 5.24) reads 3,300 of its own files, twice, whenever it is imported.

It looks for the names that each of its models exports, which takes 0.4 s of a processor, and far longer where the files
are not in memory. The same names come out of a version each time, so they are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from mlx_server.workers.folders.kept_file import read_kept, write_kept

MODULE = "transformers.utils.import_utils"
FUNCTION = "create_import_structure_from_path"
FOLDER = "transformers"

Structure = dict[Any, Any]
"""transformers' own: the structures of folders by their names, and by what they require (a frozenset of names), the
names that files export."""


class Exports(msgspec.Struct, array_like=True):
    """A structure as it is kept: its folders, and pairs of what files require and what each of them exports."""

    folders: dict[str, Exports]
    files: list[tuple[list[str], dict[str, list[str]]]]


def quicken(cache_dir: Path) -> None:
    """Have transformers find its names in this folder, once they are kept. Call it before transformers is imported;
    afterwards it changes nothing."""
    if MODULE not in sys.modules and not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder(cache_dir))


class Finder(MetaPathFinder):
    """Finds transformers' module as Python does, with a loader that changes it."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Called by Python's import."""
        spec = PathFinder.find_spec(fullname, path) if fullname == MODULE else None
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = Loader(self._cache_dir, spec.loader.name, spec.loader.path)
        return spec


class Loader(SourceFileLoader):
    """Puts the function that keeps what it finds in the place of transformers' own."""

    def __init__(self, cache_dir: Path, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._cache_dir = cache_dir

    def exec_module(self, module: ModuleType) -> None:
        """Called by Python's import."""
        super().exec_module(module)
        if callable(library := getattr(module, FUNCTION, None)):
            models = Path(self.path).parents[1] / "models"
            setattr(module, FUNCTION, keeping(library, models, self._cache_dir))


def keeping(library: Callable[[Any], Structure], models: Path, cache_dir: Path) -> Callable[[Any], Structure]:
    """A function like `library`, which finds the structure of the folder `models` only if it is not kept."""
    found: list[Structure] = []

    def structure(path: Any) -> Structure:
        folder = os.path.dirname(path) if os.path.isfile(path) else os.fspath(path)
        if Path(folder) != models:
            return library(path)
        if not found:
            found.append(cached_structure(library, models, cache_dir))
        return found[0]

    return structure


def cached_structure(library: Callable[[Any], Structure], models: Path, cache_dir: Path) -> Structure:
    """The structure that is kept of this folder as it is now, else what `library` finds, which is kept then."""
    facts = (version("transformers"), str(models), models.stat().st_mtime_ns)
    file = cache_dir / FOLDER / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.json"
    if (exports := read_kept(file, Exports)) is not None:
        return structure_of(exports)
    made = library(str(models))
    with contextlib.suppress(OSError):  # the next start looks again
        write_kept(file, exports_of(made))
    return made


def exports_of(structure: Structure) -> Exports:
    """A structure as it is kept."""
    folders = {key: exports_of(inner) for key, inner in structure.items() if isinstance(key, str)}
    files = [
        (sorted(key), {name: sorted(names) for name, names in inner.items()})
        for key, inner in structure.items()
        if not isinstance(key, str)
    ]
    return Exports(folders, files)


def structure_of(exports: Exports) -> Structure:
    """A structure that was kept."""
    files = {frozenset(needs): {name: set(names) for name, names in inner.items()} for needs, inner in exports.files}
    return {name: structure_of(inner) for name, inner in exports.folders.items()} | files
