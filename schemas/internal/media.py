"""Pictures, sounds and films as clients send them in a message's content, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media, MediaKind, Remote

MEDIA_ROLES = ("user", "tool", "function")
"""Whose messages may hold media: what a user shows, and what a tool gave."""

FILE_ID = "file_id:"
"""How the address of a file begins that its client keeps here."""

Detail = Literal["auto", "low", "high"]
DETAILS: Mapping[str, Detail] = {"auto": "auto", "low": "low", "high": "high", "original": "high"}

PART_KINDS: dict[str, MediaKind] = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "video": "video",
}
"""The parts that are media, and what they are."""

MAX_DATA_HEAD = 256
"""Characters before the comma of a data URL."""


PART_FIELDS: Mapping[str, Sequence[str]] = {
    "text": ("text",),
    "image_url": ("image_url", "detail"),
    "input_image": ("image_url", "file_id", "detail"),
    "image": ("image", "source", "detail"),
    "input_audio": ("input_audio",),
    "audio_url": ("audio_url",),
    "video_url": ("video_url",),
    "video": ("video",),
    "file": ("file",),
    "input_text": ("text",),
    "output_text": ("text",),
    "refusal": ("refusal",),
    "thinking": ("thinking",),
}
"""By the type of a part of a chat's message: the fields that count in it."""

SOURCE_FIELDS: Mapping[str, Sequence[str]] = {"base64": ("media_type", "data"), "url": ("url",), "file": ("file_id",)}
"""The same by the type of an Anthropic source."""


class MediaLink(msgspec.Struct, frozen=True):
    """An http(s), file or data URL, or plain base64."""

    url: str | msgspec.UnsetType = msgspec.UNSET
    detail: str | None = None
    file_id: str | None = None


class AudioData(msgspec.Struct, frozen=True):
    """A sound file in base64. Its own bytes tell its format; `format` is what the client takes it for."""

    data: str
    format: str | None = None


class MediaSource(msgspec.Struct, frozen=True):
    """A picture as Anthropic's API has it: base64 `data` of a `media_type`, or a `url`."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None


Link = str | MediaLink


class MediaFields(msgspec.Struct, frozen=True):
    """The fields of all parts that are media; a part's type says which one counts."""

    image_url: Link | None = None
    image: Link | None = None
    source: MediaSource | None = None
    detail: str | None = None
    file_id: str | None = None
    input_audio: AudioData | None = None
    audio_url: Link | None = None
    video_url: Link | None = None
    video: Link | None = None


def check_role(role: str, where: str) -> None:
    """Raise InvalidRequest if this role's messages hold text only."""
    if role not in MEDIA_ROLES:
        message = f"`{where}`: only messages of role user or tool may hold pictures, sounds and films, not {role!r}."
        raise InvalidRequest(message, where)


def to_media(type_: str, part: MediaFields, at: int, where: str) -> Media:
    """A part as the inside type; `where` names it. Raises InvalidRequest.

    Nothing is decoded here: what stands in the request itself becomes a data URL.
    """
    kind = PART_KINDS[type_]
    if type_ == "input_audio":
        if part.input_audio is None:
            raise InvalidRequest(f"`{where}.input_audio` is missing.", f"{where}.input_audio")
        return Media(kind, Remote(as_url(part.input_audio.data)), at, where)
    if type_ == "image" and part.source is not None:
        if part.image is not None:
            raise InvalidRequest(f"`{where}.image` and `source` can't both be given.", f"{where}.image")
        return source_media(part.source, at, where)
    if part.file_id is not None:
        return media_by_id(kind, part, at, where)
    name = "image_url" if type_ == "input_image" else type_
    link: Link | None = getattr(part, name)
    if link is None:
        raise InvalidRequest(f"`{where}.{name}` is missing.", f"{where}.{name}")
    url, own = read_link(link, f"{where}.{name}")
    field = f"{where}.{name}.detail" if own else f"{where}.detail"
    return Media(kind, Remote(as_url(url)), at, where, to_detail(own or part.detail, field))


def media_by_id(kind: MediaKind, part: MediaFields, at: int, where: str) -> Media:
    """A part that its client keeps here. Raises InvalidRequest."""
    param = f"{where}.file_id"
    if part.image_url is not None:
        raise InvalidRequest(f"`{param}` and `image_url` can't both be given.", param)
    return Media(kind, Remote(file_address(part.file_id or "")), at, param)


def file_address(file_id: str) -> str:
    """The address of a file that its client keeps here."""
    return f"{FILE_ID}{file_id}"


def read_link(link: Link, where: str) -> tuple[str, str | None]:
    """Its URL, and the detail that it asks for. Raises InvalidRequest."""
    if isinstance(link, str):
        return link, None
    if link.file_id is not None:
        return file_address(link.file_id), link.detail
    if link.url is msgspec.UNSET:
        raise InvalidRequest(f"`{where}.url` is missing.", f"{where}.url")
    return link.url, link.detail


def check_fields(part: msgspec.Struct, type_: str, fields: Mapping[str, Sequence[str]], where: str) -> None:
    """Raise InvalidRequest for a field that counts in other types only: it would be ignored. `fields` has them all."""
    for owner, names in fields.items():
        for name in names:
            if name not in fields[type_] and getattr(part, name, None) is not None:
                message = f"`{where}.{name}` belongs to type {owner!r}, and this is {type_!r}."
                raise InvalidRequest(message, f"{where}.{name}")


def source_media(source: MediaSource, at: int, where: str) -> Media:
    """A picture as Anthropic's API has it. Raises InvalidRequest."""
    if source.type in SOURCE_FIELDS:
        check_fields(source, source.type, SOURCE_FIELDS, f"{where}.source")
    match source.type:
        case "base64":
            media_type = needed(source.media_type, f"{where}.source.media_type")
            url = f"data:{media_type};base64,{needed(source.data, f'{where}.source.data')}"
            check_type(url, "image", f"{where}.source.media_type")
        case "url":
            url = needed(source.url, f"{where}.source.url").strip()
            if url != as_url(url):
                field = f"{where}.source.url"
                raise InvalidRequest(f"`{field}`: this is no URL; base64 has the type 'base64'.", field)
        case "file":
            url = file_address(needed(source.file_id, f"{where}.source.file_id"))
        case other:
            message = f"`{where}.source.type`: {other[:64]!r} is not supported; 'base64' and 'url' are."
            raise InvalidRequest(message, f"{where}.source.type")
    return Media("image", Remote(url), at, where)


def needed(value: str | None, where: str) -> str:
    """What the client gave. Raises InvalidRequest if it gave nothing."""
    if value is None:
        raise InvalidRequest(f"`{where}` is missing.", where)
    return value


def to_detail(given: str | None, where: str) -> Detail:
    """How closely a picture is looked at. Raises InvalidRequest."""
    if given is not None and given not in DETAILS:
        message = f"`{where}`: {given[:64]!r} is not supported; allowed are {', '.join(DETAILS)}."
        raise InvalidRequest(message, where)
    return DETAILS[given or "auto"]


def as_url(given: str) -> str:
    """A URL, made of plain base64 too: no URL that is served is without a colon, and base64 has none."""
    given = given.strip()
    return given if ":" in given[:MAX_DATA_HEAD] else f"data:;base64,{given}"


def check_type(url: str, kind: MediaKind, where: str) -> None:
    """Raise InvalidRequest for a data URL of another kind of file. Files that don't say what they are may be."""
    type_ = url[len("data:") : MAX_DATA_HEAD].partition(",")[0].partition(";")[0].strip().lower()
    if type_ and type_ != "application/octet-stream" and not type_.startswith(f"{kind}/"):
        raise InvalidRequest(f"`{where}`: {type_[:64]!r} is no type of {kind}; '{kind}/...' is needed.", where)


PART_TYPES = tuple(PART_FIELDS)
