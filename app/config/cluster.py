"""`--cluster`: what does not go with workers on other machines."""

from __future__ import annotations

import importlib.util

from mlx_server.app.config.settings import Settings
from mlx_server.workers.cluster.starts import SERVED_TYPES
from mlx_server.workers.extras import install_line

ADDRESS = r"^(auto|ray://[^/\s:]+:\d{1,5})$"
"""The Ray cluster that this machine is a node of, or Ray's port for clients on a cluster's head."""

NOT_BY_MODEL = {
    "hosts": "a model on several hosts is started from its first one",
    "adapter_path": "adapters lie on one machine",
    "adapter_dir": "adapters lie on one machine",
    "draft_model": "not tried on a cluster",
    "prompt_cache_dir": "kept prompts would lie on each node by themselves",
}
"""Settings of a model, and why they are refused."""


def cluster_problem(settings: Settings) -> str | None:
    """Why the server can't have its workers on a cluster, in one line; None if it can."""
    if settings.memory_limit_bytes is not None:
        return "--memory-limit does not go with --cluster: nodes offer memory as Ray's resource `mlx_memory`."
    for model in settings.models:
        if model.type is not None and model.type not in SERVED_TYPES:
            return f"{model.public_name}: --model-type {model.type} does not go with --cluster."
        for field, why in NOT_BY_MODEL.items():
            if getattr(model, field) is not None:
                return f"{model.public_name}: --{field.replace('_', '-')} does not go with --cluster: {why}."
    if importlib.util.find_spec("ray") is None:
        return f"--cluster needs Ray, here and on each node: {install_line('ray')}"
    return None
