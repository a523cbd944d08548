"""The messages between the front end's process and a worker process: one closed union per direction.

On the wire a message is a 4-byte big-endian length and MessagePack. Codecs are built once, here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from mlx_server.schemas.generation import GenerationRequest

FinishReason = Literal["stop", "length"]


class FailureKind(StrEnum):
    """Why a request ended without a result; one table turns it into a status code."""

    INVALID = "invalid"
    ENGINE = "engine"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    SHUTTING_DOWN = "shutting_down"
    UNAVAILABLE = "unavailable"
    SLOW_READER = "slow_reader"


class Text(msgspec.Struct, frozen=True, tag="t", array_like=True):
    """Text that one sequence produced; `tokens` is how many tokens it stands for."""

    ticket: int
    index: int
    text: str
    tokens: int


class Finished(msgspec.Struct, frozen=True, tag="f", array_like=True):
    """The one end of a sequence that worked. Counts are in tokens."""

    ticket: int
    index: int
    reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Failed(msgspec.Struct, frozen=True, tag="x", array_like=True):
    """The one end of a ticket that did not work, all its sequences with it."""

    ticket: int
    kind: FailureKind
    message: str
    param: str | None = None
    code: str | None = None


Event = Text | Finished | Failed


class ModelFacts(msgspec.Struct, frozen=True):
    """What a worker found out about the model it loaded."""

    rows: int
    context_length: int | None
    vocab_size: int
    parameter_bytes: int
    architecture: str
    device: str
    notes: tuple[str, ...] = ()


# --- to the worker ---


class Load(msgspec.Struct, frozen=True, tag="load", array_like=True):
    """The first message: which model to serve, and how. `rows` is the most that may be batched together."""

    model_path: str
    model_type: str
    rows: int
    prefill_step_size: int
    cache_dir: str


class Submit(msgspec.Struct, frozen=True, tag="submit", array_like=True):
    """A request to prepare now (template, tokenizer) and to run on `rows` rows, none yet if 0."""

    ticket: int
    request: GenerationRequest
    rows: int


class Grant(msgspec.Struct, frozen=True, tag="grant", array_like=True):
    """More rows for a submitted request."""

    ticket: int
    rows: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel", array_like=True):
    """Forget a request; whatever it runs on is free at once. No answer comes."""

    ticket: int


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True):
    """Release the model and exit with code 0."""


ToWorker = Load | Submit | Grant | Cancel | Stop


# --- from the worker ---


class Loading(msgspec.Struct, frozen=True, tag="loading", array_like=True):
    """How far the start has come: `done` of `total` in bytes, both 0 where a phase can't tell."""

    phase: str
    done: int = 0
    total: int = 0


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True):
    """The model answers; `facts.rows` credits are granted."""

    facts: ModelFacts


class LoadFailed(msgspec.Struct, frozen=True, tag="loadfailed", array_like=True):
    """The model can't be served; the worker exits after this."""

    message: str


class Step(msgspec.Struct, frozen=True, tag="step", array_like=True):
    """All that one step of the engine produced."""

    events: list[Event]


class Heartbeat(msgspec.Struct, frozen=True, tag="beat", array_like=True):
    """The worker's loop lives; `step_s` is how long the engine has been inside its current step, in seconds."""

    step_s: float


FromWorker = Loading | Ready | LoadFailed | Step | Heartbeat

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
