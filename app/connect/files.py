"""Changes to other programs' configuration files: read, merge, show, write. What stands there already stays."""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.exceptions
import yaml

Values = Mapping[str, Any]


class FileProblem(Exception):  # noqa: N818 - named for the fact
    """Raised when a file can't be changed; the message is one line and says what to do."""


def merged_json(text: str, new: Values) -> str:
    """JSON with new values in it. Raises ValueError."""
    old = json.loads(text) if text.strip() else {}
    return json.dumps(merged(old, new), indent=2, ensure_ascii=False) + "\n"


def merged_yaml(text: str, new: Values) -> str:
    """YAML with new values in it; its comments stay. Raises ValueError, also where they can't."""
    try:
        old = yaml.safe_load(text) or {}
        comments = comments_of(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    wanted = merged(old, new)
    if not comments:
        return dumped(wanted)
    try:
        result = edited_yaml(text, {key: value for key, value in wanted.items() if key not in old or old[key] != value})
        good = yaml.safe_load(result) == wanted and comments_of(result) == comments
    except yaml.YAMLError:
        good = False
    if not good:
        raise ValueError("it has comments, which would be lost")
    return result


def edited_yaml(text: str, values: Values) -> str:
    """The text with these values in the places of those of the same keys, or at its end. Raises yaml.YAMLError."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    missing = dict(values)
    for key, value in reversed(root.value if isinstance(root, yaml.MappingNode) else []):
        if key.value in missing:
            line = dumped({key.value: missing.pop(key.value)}).removesuffix("\n")
            text = text[: key.start_mark.index] + line + text[end_of(value) :]
    return f"{text.rstrip()}\n{dumped(missing)}" if missing else text


def end_of(node: yaml.Node) -> int:
    """Where a value ends in its text, before comments and empty lines."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return end_of(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def comments_of(text: str) -> list[str]:
    """The comments in YAML: what stands between its tokens, but for white space. Raises yaml.YAMLError."""
    found, end = [], 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        found.append(text[end : token.start_mark.index].strip())
        end = token.end_mark.index
    return [comment for comment in found if comment]


def dumped(values: Values) -> str:
    """Values as YAML."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def merged_toml(text: str, new: Values) -> str:
    """TOML with new values in it; its comments and its order stay. Raises ValueError."""
    try:
        document = tomlkit.parse(text)
    except tomlkit.exceptions.ParseError as error:
        raise ValueError(str(error)) from None
    merge_into(document, new)
    return tomlkit.dumps(document)


def merged_env(text: str, new: Values) -> str:
    """Lines of `NAME=value` with new values in them."""
    other_lines = [
        line for line in text.splitlines() if line.partition("=")[0].removeprefix("export ").strip() not in new
    ]
    return "\n".join([*other_lines, *(f"{name}={value}" for name, value in new.items())]) + "\n"


def merged(old: Any, new: Values) -> dict[str, Any]:
    """Both; `new` wins. Raises ValueError where there is no object to put it into."""
    if not isinstance(old, dict):
        raise ValueError("it holds no object")
    result = dict(old)
    merge_into(result, new)
    return result


def merge_into(old: Any, new: Values) -> None:
    """Put `new` into `old`: objects member by member; of lists of named objects those of other names stay."""
    for key, value in new.items():
        current = old.get(key)
        if isinstance(value, Mapping) and isinstance(current, dict):
            merge_into(current, value)
        elif isinstance(value, list) and isinstance(current, list):
            names = {name_of(item) for item in value}
            old[key] = [item for item in current if name_of(item) not in names or name_of(item) is None] + value
        else:
            old[key] = value


def name_of(item: Any) -> Any:
    """What tells an entry of a list from others; None for one without a name."""
    return item.get("name") or item.get("id") if isinstance(item, dict) else item


MERGERS: dict[str, Callable[[str, Values], str]] = {
    "json": merged_json,
    "toml": merged_toml,
    "yaml": merged_yaml,
    "env": merged_env,
}
"""By the format of a file."""


def changed(path: Path, format_: str, new: Values) -> tuple[str, str]:
    """What a file holds, and what it would hold. Raises FileProblem."""
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        return old, MERGERS[format_](old, new)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileProblem(f"{path} can't be changed ({reason}): put in yourself what is shown above.") from None


def diff(path: Path, old: str, new: str) -> str:
    """The change for people; nothing where there is none."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), str(path), str(path), lineterm="")
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Replace a file at once or not at all; a new one is its owner's alone: it may hold a key. Raises FileProblem."""
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            if target.exists():
                os.chmod(temporary, target.stat().st_mode & 0o777)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise FileProblem(f"{path} can't be written: {error.strerror}.") from None
