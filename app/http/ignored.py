"""`X-Ignored-Fields`: what of a request changed nothing, told in the head of its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable

HEADER = "X-Ignored-Fields"
MOST_NAMES = 20
MOST_CHARACTERS = 128


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """The header that tells these names, which a client chose, made harmless and each once; none for no names."""
    given = list(dict.fromkeys(names))
    safe_names = [re.sub(r"[^\w.\[\]-]", "?", name, flags=re.ASCII)[:MOST_CHARACTERS] for name in given[:MOST_NAMES]]
    return {HEADER: ", ".join(safe_names + ["..."] * (len(given) > MOST_NAMES))} if given else {}
