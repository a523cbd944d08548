"""JSON schemas as clients send them, in the words that llguidance enforces.

What is not enforced there is said otherwise where that is exact, or where it leaves a part of what is valid (the tag of
a union is always written). Annotations are left out. What is left over is refused where the client was promised a valid
document; otherwise it is relaxed, and its path is told.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.grammar.schema_logic import (
    CHARACTERS,
    TYPES,
    as_dict,
    as_key,
    as_list,
    disjoint,
    distinct,
    negated,
    said,
    tag_of,
    types_of,
    values_of,
)
from mlx_server.workers.engine.grammar.schema_patterns import (
    ANY,
    FORMATS,
    FORMATS_OF_NAMES,
    NATIVE_FORMATS,
    NoEquivalentError,
    conditions,
)
from mlx_server.workers.engine.grammar.schema_places import Place, Places, Schema

DISTINCT_ITEMS, DISTINCT_NAMES = "x-distinct-items", "x-distinct-names"
"""Mark arrays whose items, and objects whose names, must differ: llguidance does not see to it."""

MOST_LISTED = 1100
"""Arrays of distinct values that are written out."""

MOST_COMBINED = 60
MOST_MEMBERS = 40
MOST_CONTAINED = 8

UNCLEAR = ("anyOf", "oneOf", "if", "dependentSchemas", "patternProperties", "additionalProperties", "$dynamicRef")
"""Keywords beside which it depends on the document which properties have been looked at."""

MOST_STEPS = 20_000
"""Parts of a schema that are looked at, some of them several times: the next prompt waits."""

FARTHEST = float(2**63 - 1024)
"""Bounds beyond it are none to llguidance, which computes with doubles."""

EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Enforceable:
    """A schema that llguidance takes, and the paths of what is not enforced of the one that the client sent. In what
    is `watched` something must differ, which llguidance does not see to."""

    schema: Schema
    ignored: tuple[str, ...] = ()
    watched: bool = False


def enforceable(given: Schema, param: str, *, guaranteed: bool) -> Enforceable:
    """A client's schema, which stands at `param` in its request. Raises InvalidRequest if it is to be `guaranteed`
    that every document is valid, and that can't be."""
    return Rewriter(given, param, guaranteed).enforceable()


class Rewriter:
    """One schema's way; `ignored` are the paths of what has been relaxed. Of what stands at the `loose` paths only the
    type is kept."""

    def __init__(self, root: Schema, param: str, guaranteed: bool, loose: frozenset[str] = frozenset()) -> None:
        self.ignored: dict[str, None] = {}
        self._places = Places(root, param)
        self._param = param
        self._guaranteed = guaranteed
        self._names: dict[int, str] = {}
        self._pending: list[Place] = []
        self._loose = loose
        self._steps = 0
        self._watched = False

    def enforceable(self) -> Enforceable:
        """The root, and what was done to it. Raises InvalidRequest."""
        try:
            schema = self.whole()
        except (OverflowError, RecursionError):  # numbers beyond a double's, parts in parts in parts
            raise too_complex(self._param) from None
        return Enforceable(schema, tuple(self.ignored), self._watched)

    def whole(self, place: Place | None = None) -> Schema:
        """The root, or another part, with the definitions that it needs. Raises InvalidRequest."""
        top = self._schema(place.part if place else self._places.root, place.path if place else self._param, {})
        whole = {"allOf": [False]} if top is False else as_dict(top)
        definitions: Schema = {}
        while self._pending:
            place = self._pending.pop()
            definitions[self._names[id(place.part)]] = self._schema(place.part, place.path, {})
        return {**whole, "$defs": definitions} if definitions else whole

    def _see(self, schema: Any, steps: int = 1) -> Any:
        self._step(steps)
        return self._places.seen_through(schema)

    def _step(self, steps: int = 1) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise too_complex(self._param)

    def _cannot(self, path: str, why: str) -> None:
        """Relax what stands at a path. Raises InvalidRequest where there is a guarantee."""
        if self._guaranteed:
            raise not_guaranteed(path, why)
        self.ignored[path] = None

    def _schema(self, given: Any, path: str, beside: Schema) -> Any:
        """A part of the schema. What is `beside` it holds as well."""
        self._step()
        if isinstance(given, bool):
            return given
        if not isinstance(given, dict):
            self._cannot(path, "a schema is an object, true or false")
            return True
        if path in self._loose:
            self.ignored[path] = None
            given = {"type": given["type"]} if "type" in given else {}
        part = Part({name: value for name, value in given.items() if value is not None or name == "const"}, path)
        if "$ref" in part.given:
            self._reference(part, self._places.target(given, path))
        part.beside = {**beside, **part.given}
        rules = (self._type, self._values, self._number, self._string, self._array, self._object, self._composed)
        for rule in rules:
            rule(part)
        self._watched |= DISTINCT_ITEMS in part.out or DISTINCT_NAMES in part.out
        return part.whole()

    def _reference(self, part: Part, place: Place | None) -> None:
        if place is None:
            self._cannot(
                f"{part.path}.$ref",
                f"{part.given['$ref']!r:.100} points at nothing in this schema; define it under `$defs`",
            )
        elif isinstance(place.part, bool):
            part.also.append(place.part)
        else:
            part.out["$ref"] = f"#/$defs/{self._name(place)}"

    def _name(self, place: Place) -> str:
        """The name of a definition, which is written later."""
        if id(place.part) not in self._names:
            self._names[id(place.part)] = f"d{len(self._names)}"
            self._pending.append(place)
        return self._names[id(place.part)]

    def _type(self, part: Part) -> None:
        kind = part.given.get("type")
        if kind is None:
            return
        if kind and all(each in TYPES for each in (kind if isinstance(kind, list) else [kind])):
            part.out["type"] = kind
        else:
            self._cannot(f"{part.path}.type", f"{kind!r:.100} is no type; these are: {', '.join(TYPES)}")

    def _values(self, part: Part) -> None:
        if "const" in part.given:
            part.out["const"] = part.given["const"]
        if "enum" not in part.given:
            return
        if isinstance(values := part.given["enum"], list):
            part.out["enum"] = distinct(values)
        else:
            self._cannot(f"{part.path}.enum", "it must be a list of values")

    def _number(self, part: Part) -> None:
        bounds = dict(part.given)
        for name, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if isinstance(strict := bounds.get(exclusive), bool):  # as draft 4 has it
                del bounds[exclusive]
                if strict and name in bounds:
                    bounds[exclusive] = bounds.pop(name)
        for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if name not in bounds:
                continue
            if type(bounds[name]) in (int, float) and math.isfinite(bounds[name]):
                part.out[name] = representable(bounds[name], upper=name.lower().endswith("maximum"))
            else:
                self._cannot(f"{part.path}.{name}", "it must be a number")
        if "multipleOf" in bounds:
            if type(bounds["multipleOf"]) in (int, float) and 0 < bounds["multipleOf"] < EXACT:
                part.out["multipleOf"] = bounds["multipleOf"]
            else:
                self._cannot(f"{part.path}.multipleOf", "it must be a number above zero")

    def _string(self, part: Part) -> None:
        for name in ("minLength", "maxLength"):
            if (count := self._count(part, name)) is not None:
                part.out[name] = count
        patterns = self._patterns(part.given.get("pattern"), f"{part.path}.pattern")
        kind = part.given.get("format")
        if isinstance(kind, str) and kind in FORMATS:
            patterns.append(FORMATS[kind])
        elif isinstance(kind, str) and kind in NATIVE_FORMATS:
            part.out["format"] = kind
        if patterns:
            part.out["pattern"] = patterns[0]
            part.also += [{"pattern": pattern} for pattern in patterns[1:]]

    def _patterns(self, given: Any, path: str) -> list[str]:
        """A regular expression as those that llguidance takes."""
        if given is None:
            return []
        try:
            self._step(len(given) // CHARACTERS)
            return conditions(given)
        except NoEquivalentError as error:
            self._cannot(path, f"it has {error}, which can't be followed while text is made; say it without")
        except TypeError:
            self._cannot(path, "it must be a text")
        return []

    def _count(self, part: Part, name: str) -> int | None:
        """A keyword that is a number of things."""
        count = part.given.get(name)
        if count is None:
            return None
        if type(count) in (int, float) and count >= 0 and float(count).is_integer():
            return int(count)
        self._cannot(f"{part.path}.{name}", "it must be a whole number from 0 on")
        return None

    def _array(self, part: Part) -> None:
        given, path = part.given, part.path
        first, rest, where = given.get("prefixItems"), given.get("items"), "items"
        if isinstance(rest, list):  # before draft 2020-12
            first, rest, where = rest, given.get("additionalItems"), "additionalItems"
        if isinstance(first, list):
            name = "prefixItems" if "prefixItems" in given else "items"
            part.out["prefixItems"] = [self._schema(item, f"{path}.{name}[{i}]", {}) for i, item in enumerate(first)]
        elif first is not None:
            self._cannot(f"{path}.prefixItems", "it must be a list of schemas")
        if rest is not None:
            part.out["items"] = self._schema(rest, f"{path}.{where}", {})
        elif given.get("unevaluatedItems") is not None:
            self._unevaluated_items(part)
        for name in ("minItems", "maxItems"):
            if (count := self._count(part, name)) is not None:
                part.out[name] = count
        if given.get("uniqueItems") is True:
            self._distinct_items(part)
        if "contains" in given:
            self._contains(part)

    def _unevaluated_items(self, part: Part) -> None:
        if any(name in part.given for name in ("$ref", "allOf", "anyOf", "oneOf", "if", "contains")):
            self._cannot(f"{part.path}.unevaluatedItems", "it depends on which of several schemas holds; use `items`")
        else:
            path = f"{part.path}.unevaluatedItems"
            part.out["items"] = self._schema(part.given["unevaluatedItems"], path, {})

    def _distinct_items(self, part: Part) -> None:
        """Few values are written out, in every order or at least in their own; items are watched otherwise."""
        if part.out.get("maxItems", 2) < 2:
            return
        values = None
        if "prefixItems" not in part.out and "items" in part.out:
            given = part.given
            values = values_of(given.get("items", given.get("unevaluatedItems")), self._see)
        listed = None
        if values is not None:
            most = min(part.out.get("maxItems", len(values)), len(values))
            listed = selections(values, part.out.get("minItems", 0), most)
            part.out["maxItems"] = most
        if listed is None:
            part.out[DISTINCT_ITEMS] = True
        elif "array" in types_of(part.given, self._see):
            others = [kind for kind in TYPES if kind in types_of(part.given, self._see) and kind != "array"]
            part.also.append({"anyOf": [{"enum": listed}, *([{"type": others}] if others else [])]})

    def _contains(self, part: Part) -> None:
        least, most = self._count(part, "minContains"), self._count(part, "maxContains")
        path = f"{part.path}.contains"
        if least == 0 and most is None:
            return
        items = part.out.get("maxItems")
        if least not in (None, 1) or most is not None or items is None or items > MOST_CONTAINED or items == 0:
            name = "maxContains" if most is not None else "minContains" if least not in (None, 1) else "contains"
            bound = f"`maxItems` must be at most {MOST_CONTAINED} for it"
            why = bound if name == "contains" else "such items can't be counted while they are made"
            self._cannot(f"{part.path}.{name}", f"{why}; use `prefixItems` for items that must be there")
            return
        wanted = self._schema(part.given["contains"], path, {})
        anywhere = [{"prefixItems": [*[True] * i, wanted], "minItems": i + 1} for i in range(items)]
        part.also.append({"anyOf": anywhere})

    def _object(self, part: Part) -> None:
        given, path = part.given, part.path
        properties = self._members(part, "properties")
        if isinstance(properties, dict):
            part.out["properties"] = {
                name: self._schema(inner, f"{path}.properties.{name}", {}) for name, inner in properties.items()
            }
        self._required(part)
        if "additionalProperties" in given:
            part.out["additionalProperties"] = self._schema(
                given["additionalProperties"], f"{path}.additionalProperties", {}
            )
        self._pattern_properties(part)
        if "unevaluatedProperties" in given:
            self._unevaluated_properties(part)
        if "propertyNames" in given:
            self._property_names(part)
        self._numbers_of_properties(part)
        self._dependent(part)

    def _members(self, part: Part, name: str) -> Schema | None:
        """A keyword that is an object of schemas."""
        value = part.given.get(name)
        if value is None or isinstance(value, dict):
            return value
        self._cannot(f"{part.path}.{name}", "it must be an object of schemas")
        return None

    def _required(self, part: Part) -> None:
        names = part.given.get("required")
        if names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            if names:
                part.out["required"] = list(dict.fromkeys(names))
        else:
            self._cannot(f"{part.path}.required", "it must be a list of names")

    def _pattern_properties(self, part: Part) -> None:
        found: Schema = {}
        for pattern, inner in (self._members(part, "patternProperties") or {}).items():
            path = f"{part.path}.patternProperties.{pattern}"
            patterns = self._patterns(pattern, path)
            if len(patterns) > 1:
                self._cannot(path, "it has look-around, which can't be followed while text is made; say it without")
            if len(patterns) == 1:
                found[patterns[0]] = self._schema(inner, path, {})
            elif part.out.get("additionalProperties") is False:
                part.out["additionalProperties"] = True
        if found:
            part.out["patternProperties"] = found

    def _unevaluated_properties(self, part: Part) -> None:
        """What `allOf` and references list is listed here too; then all others are additional ones."""
        path = f"{part.path}.unevaluatedProperties"
        rest = self._schema(part.given["unevaluatedProperties"], path, {})
        if rest is True or "additionalProperties" in part.given:
            return
        listed = self._listed(part.given)
        if listed is None:
            self._cannot(path, "it depends on which of several schemas holds; use `additionalProperties` in each")
            return
        part.out["properties"] = {**dict.fromkeys(listed, True), **part.out.get("properties", {})}
        part.out["additionalProperties"] = rest

    def _listed(self, given: Any, depth: int = 8) -> list[str] | None:
        """The names that an object and what it is composed of list; None where that depends on the document."""
        if not isinstance(given, dict):
            return []
        unclear = (
            "anyOf",
            "oneOf",
            "if",
            "dependentSchemas",
            "patternProperties",
            "additionalProperties",
            "$dynamicRef",
        )
        if depth == 0 or any(name in given for name in unclear):
            return None
        target = self._places.target(given, "")
        parts = [*as_list(given.get("allOf")), *([target.part] if target else [])]
        inner = [self._listed(part, depth - 1) for part in parts]
        if None in inner:
            return None
        return [*as_dict(given.get("properties")), *itertools.chain.from_iterable(names for names in inner if names)]

    def _property_names(self, part: Part) -> None:
        """A list of names is a list of properties; a pattern of names is a pattern's properties."""
        path, names = f"{part.path}.propertyNames", self._see(part.given["propertyNames"])
        words = said(names)
        if names is not False and "string" in types_of(names, self._see) and words <= {"type"}:
            return
        rest, known = part.out.get("additionalProperties", True), part.out.get("properties", {})
        if "patternProperties" in part.out:
            self._cannot(path, "it does not go with `patternProperties`")
        elif (values := values_of(names, self._see)) is not None:
            listed = [value for value in values if isinstance(value, str)]
            out = {name: known.get(name, rest) for name in listed}
            part.out |= {"properties": out, "additionalProperties": False}
        elif words <= {"type", "format"} and names.get("format") not in tuple(FORMATS_OF_NAMES):
            return
        elif known:
            self._cannot(path, "it does not go with `properties`, unless it lists the names")
        elif (pattern := self._pattern_of_names(names, words, path)) is not None:
            part.out |= {"patternProperties": {pattern: rest}, "additionalProperties": False}

    def _pattern_of_names(self, names: Schema, words: set[str], path: str) -> str | None:
        if words <= {"type", "format"}:
            return FORMATS_OF_NAMES[names["format"]]
        if words <= {"type", "minLength", "maxLength"}:
            bounds = Part(names, path)
            least, most = self._count(bounds, "minLength"), self._count(bounds, "maxLength")
            return f"^{ANY}{{{least or 0},{'' if most is None else most}}}$"
        if words <= {"type", "pattern"}:
            patterns = self._patterns(names["pattern"], f"{path}.pattern")
            if len(patterns) == 1:
                return patterns[0]
        if path not in self.ignored and f"{path}.pattern" not in self.ignored:
            self._cannot(path, "it can be a list of names, or one pattern, or bounds of their length")
        return None

    def _numbers_of_properties(self, part: Part) -> None:
        least, most = self._count(part, "minProperties"), self._count(part, "maxProperties")
        names, required = list(part.out.get("properties", {})), set(part.out.get("required", []))
        closed = part.out.get("additionalProperties") is False and "patternProperties" not in part.out
        optional = [name for name in names if name not in required]
        if least is not None and least > len(required):
            self._least_properties(part, least - len(required), optional, closed)
        if most is not None and not (closed and most >= len(names)):
            self._most_properties(part, most, optional, closed)

    def _least_properties(self, part: Part, more: int, optional: list[str], closed: bool) -> None:
        """Require `more` of the optional properties, or of names that the model invents."""
        if not optional:
            part.out["minProperties"] = more + len(part.out.get("required", []))
            if more > 1:
                part.out[DISTINCT_NAMES] = True
        elif (closed and math.comb(len(optional), more) <= MOST_COMBINED) or (
            more == 1 and len(optional) <= MOST_COMBINED
        ):
            sets = itertools.combinations(optional, more)
            part.also.append({"anyOf": [{"required": list(names)} for names in sets]})
        else:
            self._cannot(f"{part.path}.minProperties", "there are too many ways to keep it; use `required`")

    def _most_properties(self, part: Part, most: int, optional: list[str], closed: bool) -> None:
        more = most - len(part.out.get("required", []))
        if not optional:
            part.out["maxProperties"] = most
        elif closed and more >= 0 and math.comb(len(optional), more) <= MOST_COMBINED:
            sets = itertools.combinations(optional, len(optional) - more)
            part.also.append({"anyOf": [{"properties": dict.fromkeys(names, False)} for names in sets]})
        else:
            self._cannot(
                f"{part.path}.maxProperties",
                "is only kept where few properties are optional, and no others are allowed",
            )

    def _dependent(self, part: Part) -> None:
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            for name, wanted in (self._members(part, keyword) or {}).items():
                path = f"{part.path}.{keyword}.{name}"
                if isinstance(wanted, list):
                    there: Any = {"required": [name, *wanted]}
                else:
                    there = {"allOf": [{"required": [name]}, self._schema(wanted, path, part.beside)]}
                part.also.append({"anyOf": [{"properties": {name: False}}, there]})

    def _composed(self, part: Part) -> None:
        given, path = part.given, part.path
        for name in ("allOf", "anyOf", "oneOf"):
            if name in given and not (isinstance(given[name], list) and given[name]):
                self._cannot(f"{path}.{name}", "it must be a list of schemas")
            elif name in given:
                {"allOf": self._all_of, "anyOf": self._any_of, "oneOf": self._one_of}[name](part, given[name])
        if "not" in given:
            self._not(part)
        if "if" in given and ("then" in given or "else" in given):
            self._condition(part)
        for name in ("$dynamicRef", "$recursiveRef"):
            if name in given:
                self._dynamic(part, name)

    def _dynamic(self, part: Part, name: str) -> None:
        anchor = str(part.given[name])
        root = Place(self._places.root, self._param, self._places.root)
        place = root if anchor == "#" else self._places.only_dynamic(anchor.removeprefix("#"))
        if place is None:
            self._cannot(f"{part.path}.{name}", "it depends on where it is read from; use `$ref`")
        else:
            part.also.append({"$ref": f"#/$defs/{self._name(place)}"})

    def _each(self, part: Part, keyword: str, members: list[Any]) -> list[Any]:
        beside = {name: value for name, value in part.beside.items() if name not in ("allOf", "anyOf", "oneOf")}
        return [self._schema(member, f"{part.path}.{keyword}[{i}]", beside) for i, member in enumerate(members)]

    def _all_of(self, part: Part, members: list[Any]) -> None:
        part.also += self._each(part, "allOf", members)

    def _any_of(self, part: Part, members: list[Any]) -> None:
        """Objects that a tag tells apart always have it: whoever reads them looks for it first."""
        found = self._each(part, "anyOf", members)
        objects = [i for i, member in enumerate(members) if types_of(member, self._see) == {"object"}]
        if len(objects) > 1 and (tag := tag_of([members[i] for i in objects], self._see)):
            found = [with_tag(member, tag) if i in objects else member for i, member in enumerate(found)]
        part.also.append({"anyOf": found})

    def _one_of(self, part: Part, members: list[Any]) -> None:
        found = self._each(part, "oneOf", members)
        kind = {"type": part.beside["type"]} if "type" in part.beside else {}
        # Where a member does not say its type, the type beside it holds.
        typed = [{**kind, **seen} if isinstance(seen := self._see(member), dict) else seen for member in members]
        if (values := self._only_once(members)) is not None:
            part.also.append({"enum": values})
        elif len(members) <= MOST_MEMBERS and all(
            disjoint(a, b, self._see) for a, b in itertools.combinations(typed, 2)
        ):
            part.also.append({"anyOf": found})
        elif tag := tag_of(typed, self._see):
            part.also.append({"anyOf": [with_tag(member, tag) for member in found]})
        elif (alone := self._alone(part, found, members)) is not None:
            part.also.append({"anyOf": alone})
        else:
            self._cannot(f"{part.path}.oneOf", "its schemas overlap, so that a document could be of two; use `anyOf`")
            part.also.append({"anyOf": found})

    def _only_once(self, members: list[Any]) -> list[Any] | None:
        """Values that are of one member only, where all members list theirs."""
        values = [values_of(member, self._see) for member in members]
        if None in values:
            return None
        everything = [value for those in values for value in those or ()]
        keys = [as_key(value) for value in everything]
        often = Counter(keys)
        return [value for value, key in zip(everything, keys, strict=True) if often[key] == 1]

    def _alone(self, part: Part, found: list[Any], members: list[Any]) -> list[Any] | None:
        """Each member without the others."""
        if len(members) > 4:
            return None
        others = [negated(member, part.beside, self._see) for member in members]
        if None in others:
            return None
        path = f"{part.path}.oneOf"
        nots = [{"anyOf": [self._schema(each, path, part.beside) for each in other or ()]} for other in others]
        return [{"allOf": [each, *nots[:i], *nots[i + 1 :]]} for i, each in enumerate(found)]

    def _not(self, part: Part) -> None:
        path = f"{part.path}.not"
        beside = {name: value for name, value in part.beside.items() if name != "not"}
        others = negated(part.given["not"], beside, self._see)
        if others is None:
            self._cannot(path, "it can't be said in other words here; say what is allowed")
        else:
            part.also.append({"anyOf": [self._schema(other, path, beside) for other in others]})

    def _condition(self, part: Part) -> None:
        given, path = part.given, part.path
        beside = {name: value for name, value in part.beside.items() if name not in ("if", "then", "else")}
        otherwise = negated(given["if"], beside, self._see)
        if otherwise is None:
            why = "the other case can't be said in other words; use `anyOf` with one schema for each case"
            self._cannot(f"{path}.if", why)
            return
        holds = [
            self._schema(given["if"], f"{path}.if", beside),
            self._schema(given.get("then", True), f"{path}.then", beside),
        ]
        rest = self._schema(given.get("else", True), f"{path}.else", beside)
        others = [{"allOf": [self._schema(each, f"{path}.if", beside), rest]} for each in otherwise]
        part.also.append({"anyOf": [{"allOf": holds}, *others]})


class Part:
    """A part of a schema on its way: what was given, what is written, and what must hold as well."""

    def __init__(self, given: Schema, path: str) -> None:
        self.given = given
        self.path = path
        self.beside: Schema = {}
        self.out: Schema = {}
        self.also: list[Any] = []

    def whole(self) -> Any:
        """What is written."""
        also = [each for each in self.also if each not in (True, {})]
        if False in also:
            return False
        if not also:
            return self.out
        if len(also) == 1 and not (set(also[0]) & set(self.out)):
            return {**self.out, **also[0]}
        return {**self.out, "allOf": also}


def with_tag(schema: Any, tag: str) -> Any:
    """The same, with a property that must be there."""
    return {"allOf": [schema, {"required": [tag]}]}


def representable(bound: float, *, upper: bool) -> float:
    """A bound that llguidance computes with, none outside this one."""
    nearest = max(-FARTHEST, min(FARTHEST, bound))
    if isinstance(nearest, int) and abs(nearest) > EXACT:
        rounded = float(nearest)
        outside = rounded > nearest if upper else rounded < nearest
        nearest = int(math.nextafter(rounded, -math.inf if upper else math.inf) if outside else rounded)
    return int(nearest) if float(nearest).is_integer() else nearest


def selections(values: list[Any], least: int, most: int) -> list[list[Any]] | None:
    """All arrays of different values: in every order if these are not too many, else in the values' own."""
    if len(values) > MOST_LISTED:
        return None
    sizes = range(least, min(most, len(values)) + 1)
    for count, choose in ((math.perm, itertools.permutations), (math.comb, itertools.combinations)):
        if sum(count(len(values), size) for size in sizes) <= MOST_LISTED:
            chosen: Callable[[list[Any], int], Iterable[tuple[Any, ...]]] = choose
            return [list(each) for size in sizes for each in chosen(values, size)]
    return None


def too_complex(param: str) -> InvalidRequest:
    """The refusal of a schema that would have to be looked at for too long."""
    return InvalidRequest(
        f"`{param}` is too complex: make it smaller, with simpler conditions and unions.", param, "invalid_grammar"
    )


def not_guaranteed(path: str, why: str) -> InvalidRequest:
    """The refusal of a schema."""
    return InvalidRequest(f"`{path}` can't be guaranteed: {why}, or leave it out.", path, "invalid_grammar")
