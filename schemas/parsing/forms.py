"""From the texts of a form to an outside type."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.parse import explain

T = TypeVar("T", bound=msgspec.Struct)


def parse_form(fields: dict[str, Any], type_: type[T]) -> tuple[T, list[str]]:
    """Texts, or lists of them, as the type that has them; returns it and the names that it does not know. An empty text
    says nothing, where no text is wanted. Raises InvalidRequest."""
    known = {field.encode_name: field.type for field in msgspec.structs.fields(type_)}
    given = {name: value for name, value in fields.items() if name in known and value != ""}
    try:
        parsed = msgspec.convert(given, type_, strict=False)
    except msgspec.ValidationError as error:
        message, param = explain(error, type_)
        raise InvalidRequest(message, param) from None
    return parsed, [name for name in fields if name not in known]
