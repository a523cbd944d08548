"""What a worker asks of a kind of model. The same steps for all; nothing here knows MLX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Several
from typing import Protocol

from mlx_server.schemas.internal.generation import Media, MediaKind, Prompt, ToolUse
from mlx_server.schemas.internal.messages import (
    Finished,
    FinishReason,
    KeptPrefix,
    Load,
    Loading,
    MlxMemory,
    ModelFacts,
    Part,
    PrefixOf,
    Result,
    Started,
)
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.sequence import Computed, Echoed, Key, Sequence, Token

DECODERS = 2
"""How many requests have their files decoded at a time."""


class AnswerStream(Protocol):
    """One sequence's tokens as parts of an answer. Lives on the event loop's thread.

    Every token is counted in exactly one part, so that their `tokens` sum to `completion_tokens`.
    """

    @property
    def finish(self) -> FinishReason | None:
        """Why nothing more belongs to the answer, once that is so."""

    def started(self) -> Started:
        """What its prompt took."""

    def add(self, item: Token | Echoed | Computed) -> Iterable[Part | Result]:
        """What is certain after one more token, and after the last one all that was held back; the prompt as the first
        part of the answer; or what was computed."""

    def finished(self) -> Finished:
        """The end of an answer that has one."""


class Handler(Protocol):
    """A model behind the engine thread. Unless said otherwise, methods are called on that thread only."""

    @property
    def accelerated(self) -> bool:
        """It computes on an accelerator that processes had better take turns on. May be asked on any thread."""

    @property
    def kinds(self) -> Several[MediaKind]:
        """What the loaded model takes beside text. May be asked on any thread."""

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Make the model ready to answer. Raises ModelLoadError."""

    def decode(self, media: Several[Media], abandoned: IsCancelled = never) -> Several[Media]:
        """A request's files as `prepare` and `tokens` take them, in order. Called on threads of its own, DECODERS at a
        time, for requests that have files. Raises InvalidRequest, also where it gave up as the request is abandoned."""

    def open(self, request: Work, abandoned: IsCancelled = never) -> Work:
        """A request with the files decoded that lie on this machine, as `prepare` takes it. Called as `decode` is.
        Raises InvalidRequest."""

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Turn a request into sequences. Called on the tokenizer's thread. Raises InvalidRequest."""

    def tokens(self, prompt: Prompt, tool_use: ToolUse, tenant: str | None = None) -> list[int]:
        """A prompt's token ids, as `prepare` has them; what this tenant has sent before may be known. Called on the
        tokenizer's thread. Raises InvalidRequest."""

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Tokens as the vocabulary writes them. Called on the tokenizer's thread."""

    def text(self, ids: Iterable[int]) -> str:
        """The text of tokens. Called on the tokenizer's thread. Raises InvalidRequest for ids that are none."""

    def kept_prefix(self, question: PrefixOf) -> KeptPrefix:
        """What of a prompt is kept. Called on the tokenizer's thread. Raises InvalidRequest."""

    def canary(self, key: Key) -> Sequence | None:
        """A sequence of one token, which leaves nothing behind; None of a model that writes no text. Called on the
        event loop's thread."""

    def answer_stream(self, sequence: Sequence) -> AnswerStream:
        """A stream for one sequence. Called on the event loop's thread."""

    @property
    def engine(self) -> Engine:
        """What steps the sequences of a loaded model."""

    def settle(self) -> None:
        """Wait for what has been begun on the accelerator, so that another process may use it."""

    def rest(self) -> None:
        """There is nothing to do for a while: give back to the system what was freed."""

    def bind(self, limit_bytes: int | None) -> None:
        """Let the process hold no more from now on; None: what it wants."""

    def memory(self) -> MlxMemory | None:
        """What MLX says of its memory; does not wait for anything."""

    def close(self) -> None:
        """Release everything the model holds."""
