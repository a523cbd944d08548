"""How long it is looked for the parts of a schema that are refused."""

from __future__ import annotations

import time

from mlx_server.workers.engine.grammar.json_schema import Enforceable
from mlx_server.workers.engine.grammar.schema_search import settled


def test_search_ends_in_time_with_what_it_has_found() -> None:
    """Each part is refused together with the others alone, so that all would be tried."""
    tried: list[str] = []

    def objection(source: str) -> str | None:
        tried.append(source)
        time.sleep(0.02)
        return "no" if len(tried) == 1 else None

    schema = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(150)}}
    found = settled(schema, "schema", objection, guaranteed=False, search_s=0.2)
    assert found == Enforceable({"type": "object"}, ("schema",))
    assert len(tried) < 50
