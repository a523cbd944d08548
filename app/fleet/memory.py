"""How much memory a model will need on this machine. Reads the headers of its files."""

from __future__ import annotations

from dataclasses import replace

from mlx_server.app.catalog.classify import head_bytes_per_token
from mlx_server.app.catalog.errors import NotServable
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.catalog.model_folder import read_model
from mlx_server.app.catalog.served_type import folder_of, read
from mlx_server.app.config.settings import ModelSettings, ModelType
from mlx_server.app.fleet.memory_estimate import (
    PREFIX_CACHE_BYTES,
    MemoryEstimate,
    Serving,
    estimate_of,
    part_of,
    scripted_estimate,
)
from mlx_server.app.machine.device import Device
from mlx_server.schemas.internal.hosts import sharing
from mlx_server.workers.folders.known_types import holds_head
from mlx_server.workers.folders.model_files import NotAModel, read_json, read_tensors

UNKNOWN = MemoryEstimate(0, 0, 0, prefixes=PREFIX_CACHE_BYTES)
"""Of what is not on this machine yet, or can't be read: the load itself says better what is wrong."""


def estimate_here(
    settings: ModelSettings, model_type: ModelType, device: Device, limit_bytes: int | None = None
) -> MemoryEstimate:
    """What all workers of a model will need together. Blocks."""
    if model_type == "scripted":
        return scripted_estimate(settings.replicas)
    try:
        found = read(settings)
    except NotServable:
        return UNKNOWN
    if found is None:
        return UNKNOWN
    serving, hosts = serving_of(settings, model_type), settings.hosts
    if hosts is None:
        return estimate_of(found, serving, device, limit_bytes)
    here, ranks = sharing(hosts.hosts, 0), len(hosts.hosts)
    whole = estimate_of(found, serving, device, None if limit_bytes is None else limit_bytes * ranks // here)
    return part_of(whole, here, ranks)


def serving_of(settings: ModelSettings, model_type: ModelType) -> Serving:
    """How a model is to be served, as far as it matters for memory."""
    writes = model_type in ("lm", "vlm")
    cache_limit_bytes = (settings.prefix_cache_bytes or 0) if writes else 0
    cache_limit_bytes += settings.feature_cache_bytes if model_type == "vlm" else 0
    draft = draft_of(settings)
    return Serving(
        model_type,
        settings.rows(model_type),
        settings.replicas,
        cache_limit_bytes,
        "float32" if settings.hosts and settings.cpu_dtype == "auto" else settings.cpu_dtype,
        (draft,) if draft else (),
        settings.context_length,
        auto_prefixes=writes and settings.prefix_cache_bytes is None,
        kv_bits=settings.kv_bits,
    )


def draft_of(settings: ModelSettings) -> ModelOnDisk | None:
    """The draft model beside it; None if there is none, or none that can be read. One that is a part of the model has
    no weights of its own."""
    if settings.draft_model is None:
        return None
    try:
        folder = folder_of(settings.draft_model)
        if folder is None:
            return None
        found = read_model(folder)
        if folder == folder_of(settings.path):
            config = read_json(folder, "config.json")
            if holds_head(config, read_tensors(folder)):
                return replace(found, weight_bytes=0, parameters=0, kv_bytes_per_token=head_bytes_per_token(config))
        return found
    except (NotServable, NotAModel):
        return None
