"""Loaded models, loading and measuring them below `/api/models`, as Impetus has it. `_mb` are 2**20 bytes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=256)]

MAX_TOKENS_IN_ALL = 50_000
"""Of one benchmark."""


class LoadedModel(msgspec.Struct, frozen=True):
    """A model that has worker processes. `status` is loading, loaded, restarting or unloading.

    `size_mb` is of its weights, `memory_usage_mb` of its worker processes. Null means that nobody tells.
    """

    model_id: str
    status: str
    size_mb: float | None
    memory_usage_mb: float
    load_time_seconds: float | None
    last_used: str | None
    format: str
    architecture: str | None
    parameters: str | None
    quantization: str | None


class LoadedModels(msgspec.Struct, frozen=True):
    """All of them; `available_memory_mb` is what others may still use."""

    models: list[LoadedModel]
    total_memory_usage_mb: float
    available_memory_mb: float


class LoadRequest(msgspec.Struct, frozen=True):
    """With `force_reload` a loaded model is loaded again, after what runs."""

    model_id: Name
    force_reload: bool = False


class UnloadRequest(msgspec.Struct, frozen=True):
    """With `force` what runs is ended, not waited for."""

    model_id: Name
    force: bool = False


class ModelMoved(msgspec.Struct, frozen=True):
    """How a model is now."""

    model_id: str
    status: str
    memory_usage_mb: float
    load_time_seconds: float | None


class Moved(msgspec.Struct, frozen=True):
    """The answer to loading and unloading."""

    success: bool
    message: str
    data: ModelMoved


class BenchmarkRequest(msgspec.Struct, frozen=True):
    """`num_samples` answers of `max_tokens` tokens, one after the other; `include_warmup`: after a short one that does
    not count.
    """

    num_samples: Annotated[int, Meta(ge=1, le=100)] = 10
    max_tokens: Annotated[int, Meta(ge=1, le=4096)] = 100
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    include_memory_test: bool = True
    include_warmup: bool = True


class BenchmarkSample(msgspec.Struct, frozen=True):
    """One answer; its time is that of the whole request, the queue and the prompt included."""

    tokens: int
    time_seconds: float
    tokens_per_second: float
    first_token_latency_ms: float | None


class Benchmark(msgspec.Struct, frozen=True):
    """What was measured. `memory_usage_mb` is the most that the worker processes had after a sample.

    Null: it was not asked for, or nobody tells.
    """

    model_id: str
    timestamp: str
    tokens_per_second: float
    first_token_latency_ms: float | None
    total_tokens: int
    total_time_seconds: float
    memory_usage_mb: float | None
    gpu_utilization_percent: float | None
    samples: list[BenchmarkSample]


load_decoder = msgspec.json.Decoder(LoadRequest)
unload_decoder = msgspec.json.Decoder(UnloadRequest)
benchmark_decoder = msgspec.json.Decoder(BenchmarkRequest)
