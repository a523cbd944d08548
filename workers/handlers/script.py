"""Scripts: what the scripted backend is told to do, as JSON in the text that it is given."""

from __future__ import annotations

import hashlib
import os
import time

import msgspec

from mlx_server.schemas.attachments import media_of
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Media, Prompt, TextPrompt


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a sequence does. `…_at` counts its tokens from 1; `invalid` refuses it while it is prepared.
    A picture's file may be a script too, which takes `decode_s` to decode. Of `prompt_tokens`, as many have been read
    as of `first_token_s` have passed.

    `media`: each token's text is a description of what the prompt shows, as JSON.
    """

    tokens: int = 16
    interval_s: float = 0.0
    first_token_s: float = 0.0
    text: str = "token "
    prompt_tokens: int = 1
    prepare_s: float = 0.0
    invalid: bool = False
    media: bool = False
    decode_s: float = 0.0
    die_at: int = 0
    hang_at: int = 0
    raise_at: int = 0
    crash_at: int = 0


def prepared(prompt: Prompt) -> Script:
    """The script in a prompt, after what it does before its first token. Raises InvalidRequest where it says so."""
    match prompt:
        case ChatPrompt():
            script = read_script(prompt.messages[-1].content, "messages")
        case TextPrompt():
            script = read_script(prompt.text, "messages")
        case _:
            script = Script(tokens=len(prompt.ids))
    begun(script, "prompt")
    return msgspec.structs.replace(script, text=description(prompt)) if script.media else script


def decoding_s(media: Media) -> float:
    """How long a file takes to decode. Raises InvalidRequest for a script that is none."""
    assert isinstance(media.source, bytes)
    if not media.source.startswith(b"{"):
        return 0.0
    return read_script(media.source.decode("latin-1"), media.param).decode_s


def read_script(text: str, param: str) -> Script:
    """The script in a text. Raises InvalidRequest if it is JSON but no script."""
    if not text.startswith("{"):
        return Script(tokens=max(1, len(text.split())))
    try:
        return msgspec.json.decode(text, type=Script)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"not a script: {error}", param) from None


def begun(script: Script, param: str) -> Script:
    """The same, after what it does while it is prepared. Raises InvalidRequest where it says so."""
    if script.prepare_s:
        time.sleep(script.prepare_s)
    if script.invalid:
        raise InvalidRequest("the script says that this prompt is refused", param)
    return script


def play_faults(script: Script, position: int) -> str | None:
    """Do what the script says of its token at `position`, counted from 1: die, crash, hang. Returns why it fails."""
    if position == script.die_at:
        os._exit(9)
    if position == script.crash_at:
        raise RuntimeError("the script says that the engine crashes")
    if position == script.hang_at:
        time.sleep(3600)
    return "the script says so" if position == script.raise_at else None


def tokens_of(prompt: Prompt) -> list[int]:
    """Every prompt is one token, and one for each picture, sound or film."""
    return [0] * (1 + len(media_of(prompt)))


def description(prompt: Prompt) -> str:
    """What a prompt shows: kinds, places, details, and the digests of the files."""
    shown = []
    for media in media_of(prompt):
        assert isinstance(media.source, bytes)
        digest = hashlib.sha256(media.source).hexdigest()
        shown.append({"kind": media.kind, "at": media.at, "detail": media.detail, "sha256": digest})
    return msgspec.json.encode(shown).decode()
