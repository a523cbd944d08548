"""Managing models, as MLX-GUI has it. Times are ISO 8601, in UTC; sizes named `_gb` are 2**30 bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.openai.common import Model, ModelList

MOST_PRIORITY = 1_000_000
Priority = Annotated[int, Meta(ge=-MOST_PRIORITY, le=MOST_PRIORITY)]


class ListedModel(msgspec.Struct, frozen=True):
    """A model that may be named.

    `id` is the registry's number, null for a model that it does not keep. `type` is text, vision, embedding, reranker,
    audio or image; `status` is unloaded, loading, loaded, restarting, unloading or failed. `size_gb` is of its weights;
    a `pinned` one never goes for another.
    """

    id: int | None
    name: str
    type: str
    status: str
    memory_required_gb: float | None
    use_count: int
    last_used_at: datetime | None
    created_at: datetime | None
    size_gb: float | None
    pinned: bool


class AllModels(ModelList, frozen=True):
    """`GET /v1/models`: OpenAI's list in `data`, MLX-GUI's in `models`; both name the same models."""

    models: list[ListedModel]


class ModelDetails(Model, frozen=True, kw_only=True):
    """One model: OpenAI's object, whose `id` is the name, and all that is known beside it.

    `created_at` is when it came into the registry, and `type` is what MLX-GUI calls it.
    """

    registry_id: int | None
    name: str
    path: str | None
    version: str | None
    type: str
    memory_required_gb: float | None
    use_count: int
    last_used_at: datetime | None
    updated_at: datetime | None
    error_message: str | None
    metadata: dict[str, Any]


class Moved(msgspec.Struct, frozen=True):
    """A model was loaded or unloaded."""

    message: str
    status: str


class Pinned(msgspec.Struct, frozen=True):
    """Whether a model stays loaded while others want its memory."""

    message: str
    pinned: bool


class DeletedModel(msgspec.Struct, frozen=True):
    """`removed_files`: its files, which lay in a folder that is there for models, are gone too."""

    message: str
    removed_files: bool
    status: Literal["deleted"]


class ModelHealth(msgspec.Struct, frozen=True):
    """Whether a model takes work at once."""

    model: str
    status: str
    healthy: bool
    last_used: datetime | None


class InstallRequest(msgspec.Struct, frozen=True):
    """`name` is what the model will be called here, its id on the hub if there is none."""

    model_id: Annotated[str, Meta(max_length=200)]
    name: Annotated[str, Meta(max_length=128)] | None = None


class Installed(msgspec.Struct, frozen=True):
    """A model is on this machine, and may be named."""

    message: str
    model_name: str
    model_id: str
    status: Literal["installed"]


class HeldConfig(msgspec.Struct, frozen=True):
    """What a loaded model does, in the hub's words, and what it was expected to need."""

    model_type: str
    estimated_memory_gb: float | None


class HeldModel(msgspec.Struct, frozen=True):
    """A loaded model; `memory_usage_gb` is what its worker processes hold, `pids` are their numbers.

    `state` is loaded or restarting; `replicas` is how many workers it has when all live.
    """

    loaded_at: datetime | None
    last_used_at: datetime | None
    memory_usage_gb: float
    config: HeldConfig
    state: str
    replicas: int
    pids: list[int]


class ManagerSummary(msgspec.Struct, frozen=True):
    """All models together. `max_concurrent_models` is null where memory alone bounds them.

    `queue_size` counts loads that wait for memory, `memory_usage_percent` is of the machine's memory.
    """

    loaded_models_count: int
    max_concurrent_models: int | None
    queue_size: int
    total_model_memory_gb: float
    memory_usage_percent: float
    memory_limit_gb: float | None
    auto_unload_enabled: bool
    inactivity_timeout_minutes: float


class QueuedLoad(msgspec.Struct, frozen=True):
    """A load that waits for memory; `position` 0 is the next."""

    model: str
    priority: int
    queued_at: datetime
    position: int


class ManagerStatus(msgspec.Struct, frozen=True):
    """Loaded models by name, and the loads that wait."""

    loaded_models: dict[str, HeldModel]
    system_status: ManagerSummary
    queue_status: list[QueuedLoad]


class ManagedStatus(msgspec.Struct, frozen=True):
    """One model; `queue_position` is null unless it waits for memory."""

    name: str
    status: str
    loaded: bool
    loaded_at: datetime | None
    last_used_at: datetime | None
    memory_usage_gb: float | None
    queue_position: int | None


class PriorityRequest(msgspec.Struct, frozen=True):
    """Higher ones are loaded first."""

    priority: Priority


class PriorityAnswer(msgspec.Struct, frozen=True):
    """The load has that priority, if one waits."""

    model: str
    priority: int
    message: str


install_decoder = msgspec.json.Decoder(InstallRequest)
priority_decoder = msgspec.json.Decoder(PriorityRequest)
