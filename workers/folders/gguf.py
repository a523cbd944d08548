"""A .gguf file as an MLX folder: converted once, then taken from the cache."""

import hashlib
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Literal

from mlx_server.workers.folders.cache_folder import make_once
from mlx_server.workers.folders.conversions import Source, drop_older, folder_for_all, record
from mlx_server.workers.folders.gguf_parts import MissingPartsError, parts_of

DType = Literal["float16", "float32"]

CONVERSION = 3
"""Raised when what is made of a file changes: it is converted again then."""

_CONVERTER = "mlx_server.workers.engine.from_gguf.convert"
_log = logging.getLogger(__name__)
_STEP = re.compile(r"\[(\d)/(\d)\] (.+?)\.*$")
_PERCENT = re.compile(r"Converting:\s+(\d+)%")
_FAILURE_MARK = "❌"


class GgufError(Exception):
    """Raised when a .gguf file cannot be turned into an MLX folder; the message is one line."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"Cannot convert {path}: {' '.join(reason.split())}")


def edition() -> str:
    """Of conversions: what is made of a file by another one is another model."""
    return f"{CONVERSION}-{metadata.version('gguf2mlx')}"


def default_dtype() -> DType:
    """The weights' type that is fastest here: half precision on Metal, single on a CPU."""
    return "float16" if sys.platform == "darwin" else "float32"


def convert_gguf(path: Path, cache_dir: Path, report: Callable[[str], None], dtype: DType | None = None) -> Path:
    """Return the MLX folder for `path`, converting it unless this very file was converted before.

    `path` may be any part of a model in several files. The folder lies under `cache_dir / "converted"` and appears
    there whole or not at all. The conversion runs in a process of its own, which keeps its memory and its output out of
    this one: `report` gets a short line per step. What was made of the file when it was another one is removed, unless
    a process holds it. Raises `GgufError`.
    """
    dtype = dtype or default_dtype()
    path = path.absolute()
    try:
        parts = parts_of(path)
    except MissingPartsError as error:
        raise GgufError(path, str(error)) from None
    for part in parts:
        _check_magic(part)

    def build(scratch: Path) -> Path:
        made = _convert(parts, scratch / "model", report, dtype)
        record(made, source)
        return made

    try:
        source = Source(str(parts[0]), dtype, _cache_name(parts, dtype))
        drop_older(source, cache_dir)
        return make_once(folder_for_all(cache_dir) / source.identity, build, report)
    except OSError as error:
        raise GgufError(path, str(error)) from error


def converted(path: Path, cache_dir: Path, dtype: DType | None = None) -> Path | None:
    """The folder that `path` has been converted to, if it has. Raises `GgufError`."""
    try:
        folder = folder_for_all(cache_dir) / _cache_name(parts_of(path.absolute()), dtype or default_dtype())
    except (MissingPartsError, OSError) as error:
        raise GgufError(path, str(error)) from None
    return folder if folder.is_dir() else None


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as handle:
            magic = handle.read(4)
    except OSError as error:
        raise GgufError(path, error.strerror or str(error)) from error
    if magic != b"GGUF":
        raise GgufError(path, "it is not a GGUF file")


def _cache_name(parts: list[Path], dtype: DType) -> str:
    stats = [(part, part.stat()) for part in parts]
    files = [f"{part}\0{stat.st_size}\0{stat.st_mtime_ns}" for part, stat in stats]
    identity = "\0".join([*files, dtype, edition()])
    return f"{parts[0].stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _convert(parts: list[Path], output: Path, report: Callable[[str], None], dtype: DType) -> Path:
    path = parts[0]
    arguments = ["-m", _CONVERTER, str(output), dtype, *map(str, parts)]
    with subprocess.Popen(  # noqa: S603 - a list of our own, no shell
        [sys.executable, "-P", "-u", "-X", "utf8", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            last_line = ""
            failure = ""
            progress = _Progress(path.name, report)
            for line in map(str.strip, process.stdout):
                if not line:
                    continue
                _log.debug("conversion: %s", line)
                progress.follow(line)
                last_line = line
                if line.startswith(_FAILURE_MARK):
                    failure = line.removeprefix(_FAILURE_MARK)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0 or not output.is_dir():
        raise GgufError(path, failure or f"the conversion ended with code {process.returncode}: {last_line}")
    return output


class _Progress:
    """Turns the converter's output into a line per step and per quarter of the weights."""

    def __init__(self, name: str, report: Callable[[str], None]) -> None:
        self._name = name
        self._report = report
        self._quarters = 0

    def follow(self, line: str) -> None:
        if match := _STEP.match(line):
            number, count, title = match.groups()
            self._report(f"{self._name}: {title} ({number}/{count})")
        elif match := _PERCENT.match(line):
            quarters = int(match[1]) // 25
            if self._quarters < quarters < 4:
                self._quarters = quarters
                self._report(f"{self._name}: converted {quarters * 25} % of the weights")
