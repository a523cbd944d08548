"""What the flags of `mlx-server launch` mean: the server's settings, now and whenever they are read again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from mlx_server.app.cli import launch_options as options
from mlx_server.app.cli.launch_flags import LaunchFlags
from mlx_server.app.cli.model_flags import models_of_flags, pinned
from mlx_server.app.cli.template_options import parse_arguments, read_template
from mlx_server.app.config import config_file
from mlx_server.app.config.cluster import cluster_problem
from mlx_server.app.config.config_file import ConfigError
from mlx_server.app.config.hosts_file import HostsError, read_hosts
from mlx_server.app.config.hours import parse_hours
from mlx_server.app.config.memory_limit import parse_memory_limit
from mlx_server.app.config.settings import (
    ApiKey,
    MediaAccess,
    ModelSettings,
    Settings,
    default_cache_dir,
    default_data_dir,
)
from mlx_server.app.registry.app_settings import with_stored
from mlx_server.app.registry.stored import keys_of, read_stored
from mlx_server.schemas.internal.hosts import Hosts
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.folders.model_path import local_path
from mlx_server.workers.parent.supervisor import Patience

FIELDS = {
    "idle_timeout": "idle_timeout_s",
    "keepalive": "keepalive_s",
    "resume_seconds": "resume_s",
    "memory_limit": "memory_limit_bytes",
    "accelerator_lease": "lease",
    "cors_origin": "cors_origins",
}
"""Options whose fields of the settings are called otherwise."""

WITHOUT_COMPANIONS = tuple(
    kind for kind in options.ModelKind if kind not in (options.ModelKind.LM, options.ModelKind.SCRIPTED)
)
"""What is served as it is, without adapters and draft models."""


def check_companions(kind: options.ModelKind | None, companions: dict[str, object]) -> None:
    """Adapters, draft models and hosts, by their flags, are for models that write texts only. Raises
    typer.BadParameter."""
    given = [flag for flag, value in companions.items() if value is not None]
    if given and kind is not None and kind in WITHOUT_COMPANIONS:
        raise typer.BadParameter(f"means nothing for --model-type {kind.value}.", param_hint=f"'{given[0]}'")


def settings_of_flags(flags: LaunchFlags) -> Settings:
    """The settings of the flags, with the models that they name; the configuration file is not read.

    Raises typer.BadParameter or ModelPathError.
    """
    defaults = defaults_of(flags)
    try:
        limit_bytes = None if flags.memory_limit is None else parse_memory_limit(flags.memory_limit)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--memory-limit") from None
    try:
        hours = None if flags.batch_hours is None else parse_hours(flags.batch_hours)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--batch-hours") from None
    return Settings(
        models=models_of(flags, defaults),
        defaults=defaults,
        models_dir=flags.models_dir,
        config=flags.config,
        max_models=flags.max_models,
        memory_limit_bytes=limit_bytes,
        idle_timeout_s=flags.idle_timeout * 60,
        auto_load=flags.auto_load,
        auto_download=flags.auto_download,
        standby=flags.standby,
        confine_workers=flags.confine_workers,
        cluster=flags.cluster,
        lease=flags.accelerator_lease.value,
        host=flags.host,
        port=flags.port,
        keepalive_s=flags.keepalive,
        resume_s=flags.resume_seconds,
        batch_hours=hours,
        drain_timeout_s=flags.drain_timeout,
        max_body_bytes=flags.max_body_bytes,
        strict_params=flags.strict_params,
        api_keys=tuple(map(ApiKey, flags.api_key or ())),
        cors_origins=tuple(flags.cors_origin or ()),
        public_url=flags.public_url,
        rate_limit=flags.rate_limit,
        log_level=flags.log_level.value,
        log_format=flags.log_format.value,
        otlp_endpoint=flags.otlp_endpoint,
        cache_dir=flags.cache_dir or default_cache_dir(),
        data_dir=flags.data_dir or default_data_dir(),
        response_store=flags.response_store.value,
        response_store_max_bytes=flags.response_store_max_mb << 20,
        response_store_max_age_s=flags.response_store_max_age * 86_400,
        file_quota_bytes=flags.file_quota_mb << 20,
        file_quota_count=flags.file_quota_count,
        patience=Patience(step_s=flags.step_timeout, canary_s=flags.canary_interval),
        media=MediaAccess(
            flags.media_urls,
            flags.private_media_urls,
            flags.allowed_media_dir,
            flags.max_media_mb << 20,
            flags.max_media_files,
            flags.media_timeout,
        ),
        media_limits=MediaLimits(
            flags.max_image_pixels, flags.max_media_seconds, flags.media_timeout, flags.max_recording_seconds
        ),
        max_upload_bytes=flags.max_upload_mb << 20,
        max_speech_characters=flags.max_speech_characters,
    )


def defaults_of(flags: LaunchFlags) -> ModelSettings:
    """The settings of models that set none of their own. Raises typer.BadParameter."""
    return ModelSettings(
        path="",
        max_concurrency=flags.max_concurrency,
        replicas=flags.replicas,
        queue_size=flags.queue_size,
        idle_rows=flags.idle_rows,
        queue_timeout_s=flags.queue_timeout,
        request_timeout_s=flags.request_timeout or None,
        default_max_tokens=flags.default_max_tokens,
        context_length=flags.context_length,
        prefill_step_size=flags.prefill_step_size,
        chat_template=read_template(flags.chat_template),
        chat_template_args=parse_arguments(flags.chat_template_args),
        use_default_chat_template=flags.use_default_chat_template,
        feature_cache_bytes=flags.feature_cache_mb << 20,
        prefix_cache_bytes=options.bytes_of(flags.prefix_cache_mb),
        batch_tokens=flags.batch_tokens,
        cpu_dtype=flags.cpu_dtype.value,
        max_gap_s=None if flags.max_itl_ms is None else flags.max_itl_ms / 1000,
        prompt_cache_dir=flags.prompt_cache_dir,
        prompt_cache_bytes=flags.prompt_cache_mb << 20,
        kv_bytes=None if flags.kv_memory_mb is None else flags.kv_memory_mb << 20,
        kv_bits=flags.kv_bits,
        speculate=flags.speculate.value,
        warm_prompt=None if flags.warm_prompt is None else read_prompt(flags.warm_prompt),
    )


def read_prompt(path: Path) -> str:
    """The text of --warm-prompt. Raises typer.BadParameter."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} can't be read: {error}", param_hint="--warm-prompt") from None


def models_of(flags: LaunchFlags, defaults: ModelSettings) -> tuple[ModelSettings, ...]:
    """The models that are named by flags. Raises typer.BadParameter or ModelPathError."""
    companions = any(value is not None for value in flags.companions.values())
    own = replace(
        defaults,
        adapter_path=flags.adapter_path,
        adapter_dir=flags.adapter_dir,
        draft_model=flags.draft_model,
        num_draft_tokens=flags.num_draft_tokens,
        hosts=hosts_of(flags),
    )
    if flags.draft_model is not None and flags.model_type is not options.ModelKind.SCRIPTED:
        local_path(flags.draft_model)
    found = models_of_flags(
        own,
        flags.model_type.value if flags.model_type else None,
        model_path=flags.model_path,
        model_name=flags.model_name,
        models=flags.model or (),
        companions=companions,
    )
    if not found and (alone := flags_of_a_model(flags)):
        raise typer.BadParameter(
            "is for the model of --model-path or --model; in a --config file write it into the model's table.",
            param_hint=" / ".join(alone),
        )
    return found


def flags_of_a_model(flags: LaunchFlags) -> list[str]:
    """Those that were given and say something of one model alone."""
    given = {
        **flags.companions,
        "--num-draft-tokens": flags.num_draft_tokens
        if flags.num_draft_tokens != LaunchFlags.num_draft_tokens
        else None,
        "--model-type": flags.model_type,
    }
    return [flag for flag, value in given.items() if value is not None]


def hosts_of(flags: LaunchFlags) -> Hosts | None:
    """The hosts that the model is spread over, if it is. Raises typer.BadParameter."""
    if flags.hosts is None:
        if flags.backend is not None:
            raise typer.BadParameter("is for a model on several --hosts.", param_hint="--backend")
        return None
    if flags.replicas > 1:
        raise typer.BadParameter("a model on several hosts has one worker.", param_hint="--hosts / --replicas")
    try:
        return read_hosts(flags.hosts, flags.backend.value if flags.backend else None)
    except HostsError as error:
        raise typer.BadParameter(f"{error}.", param_hint="--hosts") from None


def given_fields(context: typer.Context) -> frozenset[str]:
    """The fields of the settings that a flag or a variable of the environment sets."""
    return frozenset(
        FIELDS.get(name, name)
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name != "DEFAULT"
    )


def otlp_of_all(context: typer.Context) -> bool:
    """Whether only OpenTelemetry's own variable names a collector, which all programs read."""
    source = context.get_parameter_source("otlp_endpoint")
    return source is not None and source.name == "ENVIRONMENT" and not os.environ.get(options.OTLP_VARIABLE)


@dataclass(frozen=True)
class SettingsSource:
    """Where the settings come from: flags, of which the fields `given` win over the file that `flags.config` names,
    which wins over what clients have set. `pins` are names of models."""

    flags: Settings
    given: frozenset[str]
    pins: Sequence[str]

    def read(self) -> Settings:
        """The settings as they are now. Raises ConfigError, or typer.BadParameter where there is no file."""
        configured, said = self.configured()
        found = with_stored(replace(configured, said=said), read_stored(self.flags.data_dir), keys_of(said))
        if found.cluster is not None and (problem := cluster_problem(found)) is not None:
            raise ConfigError(problem)
        return found

    def configured(self) -> tuple[Settings, frozenset[str]]:
        """The same without what clients have set, and the fields that flags or the file set. Raises what `read`
        raises."""
        flags, config = self.flags, self.flags.config
        if config is None:
            return replace(flags, models=pinned(flags.models, self.pins)), self.given
        found = config_file.read_config(config)
        models = flags.models + config_file.models_of(found, config, flags.defaults)
        said = self.given.union(config_file.fields_of(found, config))
        try:
            flags = replace(flags, models=pinned(models, self.pins))
            return config_file.server_of(found, config, flags, self.given), said
        except typer.BadParameter as error:
            raise ConfigError(f"{config}: {error.message}") from None
