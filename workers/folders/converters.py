"""What the packages of demo models carry, as folders that can be served: each in a process of its own."""

import subprocess
import sys
from pathlib import Path

CTRANSLATE2_CONVERSION = 1
"""Raised when what is made of CTranslate2's files changes: they are converted again then."""

ONNX_CONVERSION = 1
"""Raised when what is made of ONNX files changes."""


class ConversionError(Exception):
    """Raised when files cannot be turned into a model's folder; the message is one line."""


def convert_whisper(source: Path, output: Path) -> Path:
    """Make `output` of a folder that faster-whisper reads. Raises `ConversionError`."""
    return _convert("from_ctranslate2", source, output)


def convert_kokoro(source: Path, output: Path) -> Path:
    """Make `output` of Kokoro's model.onnx with its vocab.json and voices. Raises `ConversionError`."""
    return _convert("from_onnx", source, output)


def _convert(package: str, source: Path, output: Path) -> Path:
    module = f"mlx_server.workers.engine.{package}.convert"
    done = subprocess.run(  # noqa: S603 - a list of our own, no shell
        [sys.executable, "-P", "-X", "utf8", "-m", module, str(source), str(output)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = done.stdout.strip().splitlines() or [f"the conversion ended with code {done.returncode}"]
        raise ConversionError(said[-1])
    return output
