"""From a client's bytes to an outside type: every refusal names the field and says what is allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.allowed_values import allowed_values
from mlx_server.schemas.parsing.crowding import refuse_crowded
from mlx_server.schemas.parsing.field_tree import field_tree_of
from mlx_server.schemas.parsing.unknown_fields import UnknownFields

T = TypeVar("T")
RawFields = dict[str, msgspec.Raw]

_fields_decoder = msgspec.json.Decoder(RawFields)


def parse(body: bytes, decoder: msgspec.json.Decoder[T], harmless: dict[str, tuple[Any, ...]]) -> tuple[T, list[str]]:
    """Decode a JSON object; returns it and the paths of the fields that nobody here knows, at any depth. Nulls say
    nothing, whatever they are called.

    `harmless` maps a known but unsupported parameter to the values that change nothing; any other value is refused.
    Raises InvalidRequest.
    """
    refuse_crowded(body)
    try:
        fields = _fields_decoder.decode(body)
        refuse_unsupported(fields, harmless)
        parsed = decoder.decode(body)
        unknown = look_beside(fields, decoder.type, harmless)
    except msgspec.ValidationError as error:
        message, param = explain(error, decoder.type)
        raise InvalidRequest(message, param) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    return parsed, unknown


def look_beside(fields: RawFields, type_: Any, harmless: dict[str, tuple[Any, ...]]) -> list[str]:
    """The paths of the fields that `type_` does not know. Raises InvalidRequest for what can't be passed on."""
    shape = field_tree_of(type_)
    walk = UnknownFields()
    for name, raw in fields.items():
        if inner := shape.inner.get(name):
            walk.visit(msgspec.json.decode(raw), inner, ((), name))
        elif (
            name not in harmless
            and shape.field_names is not None
            and name not in shape.field_names
            and bytes(raw) != b"null"
        ):
            walk.tell((name,), ())
    return walk.unknown


def refuse_unsupported(fields: RawFields, harmless: dict[str, tuple[Any, ...]]) -> None:
    """Raise InvalidRequest for the first field whose value asks for something that this server does not do."""
    for name in (name for name in fields if name in harmless):
        try:
            value = msgspec.json.decode(fields[name])
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"`{name}`: {error}.", name) from None
        check_harmless(name, value, (*harmless[name], None))


def check_harmless(name: str, value: Any, harmless: Sequence[Any]) -> None:
    """Raises InvalidRequest for a parameter that this server does not serve, but with values that change nothing."""
    if any(value == one and type(value) is type(one) for one in harmless):
        return
    allowed = " or ".join(msgspec.json.encode(one).decode() for one in harmless)
    either = f", or set it to {allowed}" if allowed else ""
    raise InvalidRequest(
        f"`{name}` is not supported by this server. Leave it out{either}.", name, "unsupported_parameter"
    )


FOR_TESTS = "scripted"
"""A type of model that nobody has to know."""

# msgspec says where it stumbled only inside the message: "Expected `str`, got `int` - at `$.messages[0].role`".
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)


def allowed(type_: Any, path: str) -> str:
    """The end of a message about a value that is none of a few; empty if they are not known."""
    values = [value for value in allowed_values(type_, path) if value != FOR_TESTS]
    return f"; allowed are {', '.join(map(repr, values))}" if values else ""


def explain(error: msgspec.ValidationError, type_: Any = None) -> tuple[str, str | None]:
    """The message for the client and the path of the field, as `messages[0].role`. With the `type_` that was asked for
    it names the values that a field may have, where there are a few."""
    match = _WHERE.match(str(error))
    what = match["what"] if match else str(error)
    path = (match["path"] if match else None) or None
    missing = re.fullmatch(r"Object missing required field `(.+)`", what)
    if missing:
        path = f"{path}.{missing[1]}" if path else missing[1]
        return f"`{path}` is missing.", path
    if path and type_ is not None and what.startswith("Invalid enum value"):
        what += allowed(type_, path)
    return (f"`{path}`: {what}." if path else f"{what}."), path
