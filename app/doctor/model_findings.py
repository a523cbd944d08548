"""The doctor's judgments of a model on disk, which is not loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mlx_server.app.catalog.errors import NotServable
from mlx_server.app.catalog.served_type import check
from mlx_server.app.doctor.findings import Finding, Verdict
from mlx_server.app.doctor.unread import UnreadKey, comparison_of, unread_of
from mlx_server.app.registry.rows import ModelRow
from mlx_server.workers.folders.model_files import NotAModel

NOT_CONVERTED = "what of a .gguf file nobody looks at is known when it has been converted, at its first load"
MAY_DIFFER = "Its answers may differ from those it was trained to give."
SERVED = "served with --model-type"


def examine_model(row: ModelRow, cache_dir: Path) -> list[Finding]:
    """Whether it can be served, what of its settings nobody looks at, and whether its type was compared; .gguf files
    are converted into `cache_dir` when they are first loaded."""
    return [*served(row), *unread(row, cache_dir)]


def served(row: ModelRow) -> Iterator[Finding]:
    """The kind that it is, or why it can't be served."""
    if row.path is None:
        yield Finding(
            "model", Verdict.NOTICE, f"{row.name} is not on this machine", "It is fetched when it is first used."
        )
    else:
        try:
            check(row.path, row.type.model_type)
        except NotServable as error:
            yield Finding("model", Verdict.BAD, str(error))
        else:
            yield Finding("model", Verdict.GOOD, f"{row.architecture}, {SERVED} {row.type.model_type}")


def unread(row: ModelRow, cache_dir: Path) -> Iterator[Finding]:
    """Keys with values that are not the usual ones for the type, each by itself."""
    try:
        keys = unread_of(row, cache_dir) if row.path is not None else []
        told = comparison_of(row, cache_dir)
    except NotAModel as error:
        yield Finding("model", Verdict.BAD, str(error))
        return
    if keys is None:
        yield Finding("model", Verdict.NOTICE, NOT_CONVERTED, "Load it once, and look again.")
        return
    odd = [key for key in keys if key.value != key.usual]
    for key in odd:
        yield Finding(key.file, Verdict.NOTICE, detail_of(key), MAY_DIFFER)
    for note in told:
        yield Finding("model", Verdict.NOTICE, note, MAY_DIFFER)
    if keys and not odd:
        yield Finding("config.json", Verdict.GOOD, "what nobody looks at has the values that are usual for its type")


def detail_of(key: UnreadKey) -> str:
    """A key in words."""
    usual = "" if key.usual is None else f"; usual for its type: {json.dumps(key.usual)}"
    return f"{key.key} is {json.dumps(key.value)}, and nobody looks at it{usual}"
