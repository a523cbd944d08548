"""A deterministic backend without a model: the last message says, as JSON, what happens.

It takes the engine's place to reach faults that a real model won't give, and to measure what the server itself
costs. Text that is not JSON is answered with its own words.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Several
from typing import get_args

from mlx_server.schemas.internal.embedding import EmbeddingRequest, ScoreRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest, Media, MediaKind, Prompt, ToolUse
from mlx_server.schemas.internal.messages import KeptPrefix, Load, Loading, MlxMemory, ModelFacts, PrefixOf
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.sequence import Broken, Key, Produced, Sequence
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.context_length import shortest
from mlx_server.workers.handlers.script import Script, decoding_s, play_faults, prepared, read_script, tokens_of
from mlx_server.workers.handlers.scripted_results import DIMENSIONS, embedding_sequence, score_sequence
from mlx_server.workers.handlers.scripted_sequence import ScriptedAnswer, ScriptedSequence

CONTEXT_LENGTH = 1 << 24

CHUNK_S = 0.02
"""How long a step may wait, as a chunk of prefill would."""


class ScriptedHandler:
    """Plays scripts, one token of each sequence per step."""

    def __init__(self) -> None:
        self._sequences: dict[Key, ScriptedSequence] = {}
        self._closed = threading.Event()
        self._canary = Script()

    accelerated = False
    kinds: Several[MediaKind] = get_args(MediaKind)

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """The model path may ask for a slow or a failing start: `scripted:load_s=2`, `…:fail`, `…:die`.
        `…:canary={…}` is the canary's script."""
        _, _, how = spec.model_path.partition(":")
        report(Loading("loading weights", 1, 2, computes=True))
        if how.startswith("load_s="):
            time.sleep(float(how.removeprefix("load_s=")))
        elif how == "fail":
            raise ModelLoadError("the script says that this model can't be loaded")
        elif how == "die":
            os._exit(3)
        elif how.startswith("canary="):
            self._canary = read_script(how.removeprefix("canary="), "model")
        report(Loading("loading weights", 2, 2, computes=True))
        return ModelFacts(
            spec.rows,
            CONTEXT_LENGTH,
            1 << 16,
            0,
            "scripted",
            "none",
            max_model_len=shortest(CONTEXT_LENGTH, spec.context_length),
            media=tuple(self.kinds),
            dimensions=DIMENSIONS,
            scoring="embedding_similarity",
        )

    def decode(self, media: Several[Media], abandoned: IsCancelled = never) -> Several[Media]:
        """A file may be a script that says how long this takes."""
        end = time.monotonic() + sum(map(decoding_s, media))
        while (left := end - time.monotonic()) > 0 and not abandoned() and not self._closed.wait(min(left, CHUNK_S)):
            pass
        return media

    def open(self, request: Work, abandoned: IsCancelled = never) -> Work:
        """As it is."""
        return request

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Read the scripts. Raises InvalidRequest where one says so, or for what can't be one."""
        match request:
            case GenerationRequest():
                return written(ticket, request)
            case EmbeddingRequest():
                return [embedding_sequence(ticket, request)]
            case ScoreRequest():
                return [score_sequence(ticket, request)]
            case _:
                raise InvalidRequest("This model plays scripts of texts, vectors and scores.", "model")

    def tokens(self, prompt: Prompt, tool_use: ToolUse, tenant: str | None = None) -> list[int]:
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

    def kept_prefix(self, question: PrefixOf) -> KeptPrefix:
        """Nothing is kept."""
        return KeptPrefix(len(self.tokens(question.prompt, question.tool_use)))

    def canary(self, key: Key) -> Sequence:
        """The canary's script, one token of it."""
        return ScriptedSequence(key, [0], 1, script=self._canary)

    def answer_stream(self, sequence: Sequence) -> ScriptedAnswer:
        """The text is the script's."""
        return ScriptedAnswer(as_scripted(sequence))

    @property
    def engine(self) -> ScriptedHandler:
        """Itself: a script has no model."""
        return self

    @property
    def busy(self) -> bool:
        """Whether any script is playing."""
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
        for sequence in self._sequences.values():
            sequence.read_until(now)
        return [self._play(sequence) for sequence in list(self._sequences.values()) if sequence.due <= now]

    def settle(self) -> None:
        """Nothing is begun that a step doesn't end."""

    def rest(self) -> None:
        """There is nothing to give back."""

    def bind(self, limit_bytes: int | None) -> None:
        """There is nothing to let go of."""

    def memory(self) -> MlxMemory | None:
        """There is no MLX."""
        return None

    def close(self) -> None:
        """Nothing is waited for any longer."""
        self._closed.set()

    def _play(self, sequence: ScriptedSequence) -> Produced:
        script, position = sequence.advance()
        why = play_faults(script, position)
        last = sequence.remaining <= 0
        if why is not None or last:
            self.remove(sequence.key)
        sequence.due += script.interval_s
        return sequence.produced(last=last) if why is None else Broken(sequence.key, why)


def written(ticket: int, request: GenerationRequest) -> list[Sequence]:
    """The sequences of a request for text. Raises InvalidRequest."""
    sequences: list[Sequence] = []
    for prompt in request.prompts:
        script = prepared(prompt)
        limit = min(script.tokens, request.max_tokens)
        for _ in range(request.n):
            tokens = tokens_of(prompt) * script.prompt_tokens
            key = ticket, len(sequences)
            sequences.append(ScriptedSequence(key, tokens, limit, script=script, ignored=request.guessing))
    return sequences


def as_scripted(sequence: Sequence) -> ScriptedSequence:
    """What `prepare` made."""
    assert isinstance(sequence, ScriptedSequence)
    return sequence
