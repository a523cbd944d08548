"""The list of compared types that the server has, by what the suite computes, or what docs/models.md says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from fidelity import vision_outcomes
from fidelity.outcomes import CASES, Outcome

from mlx_server.workers.folders.known_types import knows, modules

Found = dict[str, list[Outcome]]

SECTIONS = {
    "texts": "# Models, compared",
    "pictures": "## Models that see",
    "pictures left out": "## The same without their pictures",
    "embeddings": "## Embeddings",
    "rerankers": "## Rerankers",
}
"""Headings of docs/models.md by kinds of models."""

ROW = re.compile(r"^\| `([^`]+)` \| (\d+) \| (\d+) \| \d+ \|$", re.MULTILINE)


def written(found: Mapping[str, Found]) -> str:
    """The list, as it is kept, of all outcomes by kind and type."""
    done = {
        kind: [one for one, some in types.items() if any(outcome.state != "refused" for outcome in some)]
        for kind, types in found.items()
    }
    return json.dumps(by_part(done), indent=1) + "\n"


def told(page: str) -> dict[str, list[str]]:
    """The same list by what the page says."""
    sections = re.split(r"^(?=##? )", page, flags=re.MULTILINE)
    done = {}
    for kind, heading in SECTIONS.items():
        section = next(one for one in sections if one.startswith(heading + "\n"))
        done[kind] = [one for one, equal, announced in ROW.findall(section) if int(equal) + int(announced)]
    return by_part(done)


def by_part(done: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Types of which something was computed, by what computes them, as configs name them."""
    texts = {one: json.loads((CASES / f"{one}.json").read_text())["config"] for one in done["texts"]}
    of_mlx_lm = {one for one, config in texts.items() if knows("mlx_lm", config)}
    return {
        "mlx_lm": sorted(of_mlx_lm | names(done["pictures left out"])),
        "mlx_vlm": sorted(names(done["pictures"]) | (texts.keys() - of_mlx_lm)),
        "embeddings": sorted(done["embeddings"]),
        "rerankers": sorted(done["rerankers"]),
    }


def names(seeing: Iterable[str]) -> set[str]:
    """The types of models that see, and the names that mlx-vlm has for some of them."""
    cases = set(seeing)
    return {str(vision_outcomes.config_of(one)["model_type"]) for one in cases} | (cases & modules("mlx_vlm"))
