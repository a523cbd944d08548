"""Which voices a model that speaks has, as its files say."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDERS = ("voices", "embeddings")
ARCHIVE = "voices.npz"
"""Where KittenTTS has all of them."""

ENDS = (".safetensors", ".pt", ".npy", ".json")

KOKORO_VOICE = re.compile(r"([a-z])[fm]_")
"""The first letter of a voice of Kokoro's says its language."""

KOKORO_ENGLISH = {"a": "en-us", "b": "en"}
"""Letters of what is read without misaki, and espeak-ng's names."""


def voices_of(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a model's voices: speakers that its configuration names, files in one of FOLDERS, or arrays in
    ARCHIVE. None where it has one voice without a name. Of Kokoro's, those whose language can be read here: English,
    and others where misaki is installed."""
    talker = config.get("talker_config")
    if isinstance(talker, Mapping) and talker.get("spk_id"):
        return tuple(map(str, talker["spk_id"]))
    places = [folder / name for name in FOLDERS]
    files = {file.stem for place in places if place.is_dir() for file in place.iterdir() if file.suffix in ENDS}
    named = config.get("voices") or config.get("voice_names") or ()
    more = (*in_archive(folder / ARCHIVE), *(config.get("voice_aliases") or ()))
    voices = sorted(files.union(map(str, named), more))
    return tuple(voices if "plbert" not in config else filter(is_read_here, voices))


def in_archive(path: Path) -> list[str]:
    """The names of arrays in a file of NumPy's; none if it is not there."""
    if not path.is_file():
        return []
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def is_read_here(voice: str) -> bool:
    """Whether the language of one of Kokoro's voices can be read."""
    found = KOKORO_VOICE.match(voice)
    return found is None or found[1] in KOKORO_ENGLISH or find_spec("misaki") is not None
