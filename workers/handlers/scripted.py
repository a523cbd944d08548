"""A deterministic backend without a model: the last message says, as JSON, what happens.

It takes the engine's place to reach faults that a real model won't give, and to measure what the server itself
costs. Text that is not JSON is answered with its own words.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import get_args

import msgspec

from mlx_server.schemas.embedding import Work
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Media, MediaKind, Prompt, TextPrompt, ToolUse
from mlx_server.schemas.messages import Finished, FinishReason, Load, Loading, ModelFacts, Part, Started, Text
from mlx_server.workers.handlers.base import ModelLoadError
from mlx_server.workers.sequence import Broken, Computed, Echoed, Key, Produced, Sequence, Token

CONTEXT_LENGTH = 1 << 24

CHUNK_S = 0.02
"""How long a step may wait, as a chunk of prefill would."""


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a sequence does. `…_at` counts its tokens from 1; `invalid` refuses it while it is prepared.

    `media`: each token's text is a description of what the prompt shows, as JSON.
    """

    tokens: int = 16
    interval_s: float = 0.0
    first_token_s: float = 0.0
    text: str = "token "
    prepare_s: float = 0.0
    invalid: bool = False
    media: bool = False
    die_at: int = 0
    hang_at: int = 0
    raise_at: int = 0
    crash_at: int = 0


@dataclass(eq=False, slots=True)
class ScriptedSequence(Sequence):
    """A sequence that knows its script and when its next token is due, in monotonic seconds."""

    script: Script = field(default_factory=Script)
    due: float = 0.0


class ScriptedAnswer:
    """Every token has the script's text."""

    def __init__(self, sequence: ScriptedSequence) -> None:
        self.finish: FinishReason | None = None
        self._sequence = sequence
        self._tokens = 0

    def add(self, item: Token | Echoed | Computed) -> list[Part]:
        """The text of one token."""
        self.finish = item.finish
        self._tokens += 1
        return [Text(*item.key, self._sequence.script.text, 1)]

    def started(self) -> Started:
        """The script's beginning."""
        return Started(*self._sequence.key, len(self._sequence.prompt), 0)

    def finished(self) -> Finished:
        """The script's end."""
        assert self.finish is not None
        return Finished(*self._sequence.key, self.finish, len(self._sequence.prompt), 0, self._tokens)


class ScriptedHandler:
    """Plays scripts, one token of each sequence per step."""

    def __init__(self) -> None:
        self._sequences: dict[Key, ScriptedSequence] = {}

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """The model path may ask for a slow or a failing start: `scripted:load_s=2`, `…:fail`, `…:die`."""
        _, _, how = spec.model_path.partition(":")
        report(Loading("loading weights", 1, 2))
        if how.startswith("load_s="):
            time.sleep(float(how.removeprefix("load_s=")))
        elif how == "fail":
            raise ModelLoadError("the script says that this model can't be loaded")
        elif how == "die":
            os._exit(3)
        report(Loading("loading weights", 2, 2))
        return ModelFacts(spec.rows, CONTEXT_LENGTH, 1 << 16, 0, "scripted", "none", media=get_args(MediaKind))

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Read the scripts. Raises InvalidRequest where one says so, or for what can't be one."""
        if not isinstance(request, GenerationRequest):
            raise InvalidRequest("a script writes text, and nothing else", "input")
        sequences: list[Sequence] = []
        for prompt in request.prompts:
            script = prepared(prompt)
            limit = min(script.tokens, request.max_tokens)
            for _ in range(request.n):
                sequences.append(ScriptedSequence((ticket, len(sequences)), tokens_of(prompt), limit, script=script))
        return sequences

    def tokens(self, prompt: Prompt, tool_use: ToolUse) -> list[int]:
        """A script that dies or raises does so at once. Raises InvalidRequest."""
        script = prepared(prompt)
        if script.die_at:
            os._exit(9)
        if script.raise_at:
            raise RuntimeError("the script says so")
        return tokens_of(prompt)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """All tokens are alike."""
        return [Script().text for _ in ids]

    def text(self, ids: Iterable[int]) -> str:
        """All tokens are alike."""
        return "".join(self.pieces(ids))

    def answer_stream(self, sequence: Sequence) -> ScriptedAnswer:
        """The text is the script's."""
        return ScriptedAnswer(as_scripted(sequence))

    @property
    def busy(self) -> bool:
        """Some script is playing."""
        return bool(self._sequences)

    def add(self, sequence: Sequence) -> None:
        """Start a script."""
        scripted = as_scripted(sequence)
        scripted.due = time.monotonic() + scripted.script.first_token_s
        self._sequences[sequence.key] = scripted

    def remove(self, key: Key) -> None:
        """Stop a script."""
        self._sequences.pop(key, None)

    def step(self) -> list[Produced]:
        """Wait for the first token that is due, at most a chunk's time, and give all that are."""
        now = time.monotonic()
        wait_s = min(sequence.due for sequence in self._sequences.values()) - now
        if wait_s > 0:
            time.sleep(min(wait_s, CHUNK_S))
            now = time.monotonic()
        return [self._play(sequence) for sequence in list(self._sequences.values()) if sequence.due <= now]

    def close(self) -> None:
        """Nothing to release."""

    def _play(self, sequence: ScriptedSequence) -> Produced:
        key, script = sequence.key, sequence.script
        sequence.emitted.append(0)
        position = len(sequence.emitted)
        if position == script.die_at:
            os._exit(9)
        if position == script.crash_at:
            raise RuntimeError("the script says that the engine crashes")
        if position == script.hang_at:
            time.sleep(3600)
        if position == script.raise_at:
            self.remove(key)
            return Broken(key, "the script says so")
        if sequence.remaining <= 0:
            self.remove(key)
            return Token(key, 0, "length")
        sequence.due += script.interval_s
        return Token(key, 0)


def as_scripted(sequence: Sequence) -> ScriptedSequence:
    """What `prepare` made."""
    assert isinstance(sequence, ScriptedSequence)
    return sequence


def prepared(prompt: Prompt) -> Script:
    """The script, after what it does before its first token. Raises InvalidRequest where it says so."""
    script = read_script(prompt)
    if script.prepare_s:
        time.sleep(script.prepare_s)
    if script.invalid:
        raise InvalidRequest("the script says that this prompt is refused", "prompt")
    return msgspec.structs.replace(script, text=description(prompt)) if script.media else script


def read_script(prompt: Prompt) -> Script:
    """The script in a prompt. Raises InvalidRequest if it is JSON but no script."""
    match prompt:
        case ChatPrompt():
            text = prompt.messages[-1].content
        case TextPrompt():
            text = prompt.text
        case _:
            return Script(tokens=len(prompt.ids))
    if not text.startswith("{"):
        return Script(tokens=max(1, len(text.split())))
    try:
        return msgspec.json.decode(text, type=Script)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"not a script: {error}", "messages") from None


def tokens_of(prompt: Prompt) -> list[int]:
    """Every prompt is one token, and one for each picture, sound or film."""
    return [0] * (1 + len(media_of(prompt)))


def media_of(prompt: Prompt) -> list[Media]:
    """What a prompt shows."""
    if not isinstance(prompt, ChatPrompt):
        return []
    return [media for message in prompt.messages for media in message.media]


def description(prompt: Prompt) -> str:
    """What a prompt shows: kinds, places, details, and the digests of the files."""
    shown = []
    for media in media_of(prompt):
        assert isinstance(media.source, bytes)
        digest = hashlib.sha256(media.source).hexdigest()
        shown.append({"kind": media.kind, "at": media.at, "detail": media.detail, "sha256": digest})
    return msgspec.json.encode(shown).decode()
