"""From the parts of a form to an outside type: every refusal names the field and says what is allowed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.parse import check_harmless, explain

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class FormDecoder(Generic[T]):
    """What a form may hold: texts for the fields of `type`, of which `lists` may be repeated, and `files`.

    `harmless` maps a known but unsupported parameter to the texts that change nothing; any other is refused.
    """

    type: type[T]
    files: Collection[str]
    lists: Collection[str] = ()
    harmless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def decode(self, texts: Mapping[str, Sequence[str]], files: Collection[str]) -> tuple[T, list[str]]:
        """The fields of a form with these texts and with files of these names, and the names that it does not know. An
        empty text says nothing. Raises InvalidRequest."""
        known = {one.encode_name: one.type for one in msgspec.structs.fields(self.type)}
        for name in files:
            if name in self.harmless:
                check_harmless(name, None, self.harmless[name])
            if name in known:
                raise InvalidRequest(f"`{name}` has to be a text of the form, without a filename.", name)
        for name, values in texts.items():
            if name in self.files and list(values) != [""]:
                raise InvalidRequest(f"`{name}` has to be a file of the form, with a filename.", name)
            if len(values) > 1 and name not in self.lists:
                raise InvalidRequest(f"`{name}` is given more than once.", name)
            if name in self.harmless:
                check_harmless(name, values[0], self.harmless[name])
        given: dict[str, Any] = {
            name: values if name in self.lists else values[0]
            for name, values in texts.items()
            if name in known and list(values) != [""]
        }
        try:
            parsed = msgspec.convert(given, self.type, strict=False)
        except msgspec.ValidationError as error:
            message, param = explain(error, self.type)
            raise InvalidRequest(message, param) from None
        return parsed, [name for name in (*texts, *files) if name not in {*known, *self.harmless, *self.files}]
