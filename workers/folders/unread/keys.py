"""Which of a config's keys no code ever looks at: a model may compute something else than its config asks for.

The sources of mlx-lm and mlx-vlm are read, not imported, so that a model can be judged where there is no MLX.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlx_server.workers.folders.context_length import text_config
from mlx_server.workers.folders.known_types import Library, folders, module_of
from mlx_server.workers.folders.unread.harmless_keys import HARMLESS, HARMLESS_PARTS, READ_HERE

LONGEST = 40
"""Characters of a value that are shown."""

PARTS = ("text_config", "vision_config", "audio_config")
"""The configs inside a config. mlx-lm's models are of the first alone."""


def unread_keys(config: Mapping[str, Any], library: Library) -> dict[str, Any]:
    """The keys, with the path to them, that say something and are neither looked at by the library's class nor known to
    be harmless, and their values; none where the library has no such class."""
    return unmentioned(saying(config, library), library, str(config.get("model_type")))


def unusual(config: Mapping[str, Any], library: Library) -> dict[str, Any]:
    """The unread keys whose values differ from transformers' defaults for the type, which a class may take for granted.
    None of a type that it does not know."""
    usual = usual_config(str(config.get("model_type")))
    said = saying(config, library) if usual else {}
    odd = {path: value for path, value in said.items() if value != at(usual, path)}
    return unmentioned(odd, library, str(config.get("model_type")))


def saying(config: Mapping[str, Any], library: Library) -> dict[str, Any]:
    """The keys that say something and are not known to be harmless."""
    parts = {f"{part}.": config[part] for part in PARTS if isinstance(config.get(part), Mapping)}
    if library == "mlx_lm":
        parts = {path: part for path, part in parts.items() if path == "text_config."}
    return {
        f"{path}{name}": value
        for path, part in {"": config, **parts}.items()
        for name, value in part.items()
        if says_something(value) and not is_harmless(name) and name not in PARTS and name != replaced(part)
    }


def replaced(part: Mapping[str, Any]) -> str | None:
    """The key of a config that Gemma's later classes do not look at where the other one says the same."""
    return "hidden_act" if part.get("hidden_activation") else None


def unmentioned(keys: Mapping[str, Any], library: Library, model_type: str) -> dict[str, Any]:
    """The keys that a type's class does not look at; none if there is no class. What a class looks at is most often in
    its own file, so that the rest need not be read."""
    left, known = dict(keys), False
    for names in sources(library, model_type):
        known = True
        left = {path: value for path, value in left.items() if path.rpartition(".")[2] not in names}
        if not left:
            break
    return left if known else {}


@cache
def usual_config(model_type: str) -> Mapping[str, Any]:
    """A type's config where nothing is said."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that there is no PyTorch
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        return {}
    found: dict[str, Any] = CONFIG_MAPPING[model_type]().to_dict()
    return found


def at(config: Mapping[str, Any], path: str) -> Any:
    """The value at a path as `unread_keys` writes it. Older files have beside the parts what is in the part that writes
    text now."""
    part, _, name = path.rpartition(".")
    inner = config.get(part) if part else {**text_config(config), **config}
    return inner.get(name) if isinstance(inner, Mapping) else None


def note(config: Mapping[str, Any], library: Library) -> list[str]:
    """What to say of a model when it is loaded."""
    found = unusual(config, library)
    if not found:
        return []
    return [f"config.json says what {library} does not look at, so answers may differ ({abridged(found)})"]


def abridged(found: Mapping[str, Any]) -> str:
    """Keys and values in one line."""
    return ", ".join(f"{name}: {short(value)}" for name, value in sorted(found.items()))


def short(value: object) -> str:
    """A value in few characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def says_something(value: object) -> bool:
    """Whether a value could change what is computed; what is off or empty is most often a class's only way."""
    return value not in (None, False, "", 0, 0.0) and value != [] and value != {}


def is_harmless(name: str) -> bool:
    """Whether a key is read by this server, known to change no answer, or a private note of whoever wrote the file."""
    return name.startswith("_") or name in READ_HERE or name in HARMLESS or any(part in name for part in HARMLESS_PARTS)


def mentioned(library: Library, model_type: str) -> frozenset[str]:
    """What the source of a type's class mentions, with what it imports of its package; empty if there is none."""
    return frozenset().union(*sources(library, model_type))


def sources(library: Library, model_type: str) -> Iterator[frozenset[str]]:
    """The same by file, its own first."""
    name = module_of(library, model_type)
    starts = [folder / "models" / name for folder in folders(library)]
    first = [file for start in starts for file in (start.with_suffix(".py"), *start.glob("*.py"))]
    seen: set[Path] = set()
    waiting = [file for file in first if file.is_file()]
    while waiting:
        file = waiting.pop(0)
        if file not in seen:
            seen.add(file)
            names, more = read_source(file)
            waiting += more
            yield names


@cache
def read_source(file: Path) -> tuple[frozenset[str], tuple[Path, ...]]:
    """What a file mentions, and the files that it imports from."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(names_in(tree)), tuple(imported(tree, file))


def names_in(tree: ast.AST) -> Iterator[str]:
    """Attributes and strings that code mentions. A field that a class only declares is none: nobody reads it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.arg):
            yield node.arg


def imported(tree: ast.AST, file: Path) -> Iterator[Path]:
    """The files of the same package that a file imports from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            inside = [base / alias.name for alias in node.names]
            yield from (place for place in (base, *inside) for place in modules(place))


def modules(place: Path) -> list[Path]:
    """The files of what is imported by this path."""
    return [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
