"""The message that tells a worker what to load."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from mlx_server.app.config.settings import ModelSettings, ModelType, Settings
from mlx_server.app.deployment.performance import Tuning
from mlx_server.schemas.internal.hosts import sharing
from mlx_server.schemas.internal.messages import PREFIX_SHARE, Load
from mlx_server.workers.parent.environment import usable_cores


def absolute(path: Path | None) -> str | None:
    """A path as a message carries it."""
    return None if path is None else str(path.absolute())


def load_of(settings: ModelSettings, model_type: ModelType, server: Settings, tuning: Tuning) -> Load:
    """The message for one model."""
    settings, hosts, ranks = tuning.tuned(settings), settings.hosts, 1
    if hosts is not None:
        hosts, ranks = replace(hosts, heartbeat_s=server.patience.heartbeat_s), sharing(hosts.hosts, 0)
    return Load(
        model_path=settings.path,
        model_type=model_type,
        rows=settings.rows(model_type),
        prefill_step_size=settings.prefill_step_size,
        cache_dir=str(server.cache_dir),
        adapter_path=absolute(settings.adapter_path),
        adapter_dir=absolute(settings.adapter_dir),
        draft_model=settings.draft_model,
        draft_tokens=settings.num_draft_tokens,
        chat_template=settings.chat_template,
        chat_template_args=settings.chat_template_args,
        use_default_chat_template=settings.use_default_chat_template,
        media_limits=server.media_limits,
        context_length=settings.context_length,
        feature_cache_bytes=settings.feature_cache_bytes,
        prefix_cache_bytes=settings.prefix_cache_bytes,
        prefix_share=PREFIX_SHARE * tuning.profile.caches,
        batch_tokens=settings.batch_tokens,
        max_gap_s=settings.max_gap_s,
        prompt_cache_dir=absolute(settings.prompt_cache_dir),
        prompt_cache_bytes=settings.prompt_cache_bytes,
        kv_bytes=settings.kv_bytes,
        warm_prompt=settings.warm_prompt,
        kv_bits=settings.kv_bits,
        speculate=settings.speculate,
        # A cluster's nodes have cores of their own.
        threads=max(1, tuning.threads(usable_cores()) // ranks) if server.cluster is None else None,
        cpu_dtype=settings.cpu_dtype,
        lease=server.lease,
        confined=server.confine_workers,
        hosts=hosts,
    )
