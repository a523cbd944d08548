"""What is wrong with a schema that llguidance refuses: its deepest part that is refused alone, in a client's words."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator

from llguidance import LLMatcher

from mlx_server.workers.engine.grammar.json_schema import Enforceable, Rewriter, enforceable, not_guaranteed
from mlx_server.workers.engine.grammar.schema_logic import as_dict, as_list
from mlx_server.workers.engine.grammar.schema_places import Place, Places, Schema

Objection = Callable[[str], str | None]
"""Why a grammar in llguidance's notation can't be used; None if it can."""

JSON_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""As `json.dumps` writes. With free whitespace small models print spaces for ever."""

MOST_TRIES = 200
MOST_RELAXED = 8

SEARCH_S = 5.0
"""How long it is looked for parts that are refused: others' prompts wait meanwhile. After it what was found last has to
do, which holds the others."""

COMPLEX = "it is too complex"
WORDS = (
    (r"it is too complex.*", r"\g<0>; make it smaller"),
    (r"regex parse error: (.*)", r"the pattern can't be read: \1; mend it"),
    (r".*[Ll]ook-?arounds?.*", "a pattern looks at what stands around, which can't be followed; say it without"),
    (r".*Regex is empty.*", "no text fits its patterns, formats and lengths together; mend them"),
    (r".*required property '(.*)' is unsatisfiable", r"it requires \1, which it does not allow; mend it"),
    (r".*are not disjoint", "a name could fit several of its patterns; keep them apart"),
    (r".*([Uu]nsatisfiable|nothing satisfies).*", "nothing satisfies it; mend it"),
    (r".*circular.*", "its references lead back to themselves; mend them"),
)
OTHERWISE = "it asks for what can't be followed while text is made; say it in a simpler way"


def source_of_schema(schema: Schema) -> str:
    """An enforceable schema in llguidance's notation."""
    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=JSON_STYLE))  # type: ignore[arg-type]


def settled(
    given: Schema, param: str, objection: Objection, *, guaranteed: bool, search_s: float = SEARCH_S
) -> Enforceable:
    """A schema as far as it can be enforced. Raises InvalidRequest if it is to be `guaranteed` and can't be."""
    until = time.monotonic() + search_s
    made, loose = enforceable(given, param, guaranteed=guaranteed), frozenset[str]()
    for _ in range(MOST_RELAXED):
        reason = objection(source_of_schema(made.schema))
        if reason is None:
            return made
        path, why = culprit(given, param, objection, reason, until, loose)
        if guaranteed:
            raise not_guaranteed(path, why)
        if path in loose or path == param:
            break
        loose |= {path}
        made = Rewriter(given, param, guaranteed, loose).enforceable()
    return Enforceable({"type": "object"}, (param,))


def culprit(
    given: Schema, param: str, objection: Objection, why: str, until: float, loose: frozenset[str]
) -> tuple[str, str]:
    """The path of the deepest part that is refused alone, as far as it is found `until` then by the monotonic clock,
    and the reason; `why` is the whole schema's."""

    def reason_of(place: Place) -> str | None:
        return objection(source_of_schema(Rewriter(given, param, False, loose).whole(place)))

    places, place = Places(given, param), Place(given, param, given)
    tries, seen = 0, {param}
    deeper = not why.startswith(COMPLEX)
    while deeper:
        deeper = False
        for child in children(place, places):
            if child.path in seen or tries == MOST_TRIES or time.monotonic() > until:
                continue
            seen.add(child.path)
            tries += 1
            if (inner := reason_of(child)) is not None:
                place, why, deeper = child, inner, not inner.startswith(COMPLEX)
                break
    return place.path, in_words(why)


def children(place: Place, places: Places) -> Iterator[Place]:
    """The schemas of which a schema is made."""
    given = as_dict(place.part)
    if (target := places.target(given, place.path)) is not None:
        yield target
    for name in ("properties", "patternProperties"):
        for key, inner in as_dict(given.get(name)).items():
            yield Place(inner, f"{place.path}.{name}.{key}", place.resource)
    for name in ("allOf", "anyOf", "oneOf", "prefixItems", "items"):
        for i, inner in enumerate(as_list(given.get(name))):
            yield Place(inner, f"{place.path}.{name}[{i}]", place.resource)
    for name in ("items", "additionalProperties", "additionalItems"):
        if isinstance(given.get(name), dict):
            yield Place(given[name], f"{place.path}.{name}", place.resource)


def in_words(reason: str) -> str:
    """What a client can use of llguidance's reason."""
    for pattern, words in WORDS:
        if match := re.fullmatch(pattern, reason, re.DOTALL):
            return match.expand(words)
    return OTHERWISE
