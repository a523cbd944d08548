"""The flags of `mlx-server launch` as one object of named types, for typer and for what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from inspect import Parameter, Signature
from typing import Any, get_type_hints

import typer

from mlx_server.app.cli import launch_options as options


@dataclass(frozen=True)
class LaunchFlags:
    """What was given, or the default; in the order of the help."""

    model_path: options.ModelPath = None
    model: options.Model = None
    config: options.Config = None
    models_dir: options.ModelsDir = None
    model_type: options.ModelType = None
    model_name: options.ModelName = None
    auto_download: options.AutoDownload = False
    memory_limit: options.MemoryLimit = None
    idle_timeout: options.IdleTimeout = 30.0
    host: options.Host = "127.0.0.1"
    port: options.Port = 8000
    api_key: options.ApiKey = field(default=None, repr=False)
    cors_origin: options.CorsOrigin = None
    max_concurrency: options.MaxConcurrency = None
    queue_size: options.QueueSize = 100
    default_max_tokens: options.DefaultMaxTokens = None
    context_length: options.ContextLength = None
    adapter_path: options.AdapterPath = None
    draft_model: options.DraftModel = None
    log_level: options.LogLevel = options.LogLevelName.INFO
    max_models: options.MaxModels = None
    pin: options.Pin = None
    auto_load: options.AutoLoad = True
    replicas: options.Replicas = 1
    hosts: options.Hosts = None
    backend: options.DistributedBackend = None
    cluster: options.ClusterAddress = None
    standby: options.Standby = True
    confine_workers: options.ConfineWorkers = True
    public_url: options.PublicUrl = None
    rate_limit: options.RateLimit = None
    max_body_bytes: options.MaxBodyBytes = 32 << 20
    strict_params: options.StrictParams = False
    idle_rows: options.IdleRows = 0
    queue_timeout: options.QueueTimeout = 300.0
    request_timeout: options.RequestTimeout = 0.0
    keepalive: options.Keepalive = 10.0
    resume_seconds: options.ResumeSeconds = 60.0
    batch_hours: options.BatchHours = None
    drain_timeout: options.DrainTimeout = 30.0
    step_timeout: options.StepTimeout = 300.0
    canary_interval: options.CanaryInterval = 60.0
    chat_template: options.ChatTemplate = None
    chat_template_args: options.ChatTemplateArgs = None
    use_default_chat_template: options.UseDefaultChatTemplate = False
    warm_prompt: options.WarmPrompt = None
    prefix_cache_mb: options.PrefixCacheMb = options.AUTO
    prompt_cache_dir: options.PromptCacheDir = None
    prompt_cache_mb: options.PromptCacheMb = 10_240
    kv_memory_mb: options.KvMemoryMb = None
    kv_bits: options.KvBits = None
    prefill_step_size: options.PrefillStepSize = 512
    max_itl_ms: options.MaxItlMs = None
    batch_tokens: options.BatchTokens = 4096
    cpu_dtype: options.CpuDtype = options.CpuWeights.AUTO
    accelerator_lease: options.AcceleratorLease = options.LeaseMode.AUTO
    speculate: options.Speculate = options.SpeculateMode.AUTO
    adapter_dir: options.AdapterDir = None
    num_draft_tokens: options.NumDraftTokens = 8
    media_urls: options.MediaUrls = True
    private_media_urls: options.PrivateMediaUrls = False
    allowed_media_dir: options.AllowedMediaDir = None
    max_media_mb: options.MaxMediaMb = 20
    max_media_files: options.MaxMediaFiles = 16
    media_timeout: options.MediaTimeout = 20.0
    max_image_pixels: options.MaxImagePixels = 64_000_000
    max_media_seconds: options.MaxMediaSeconds = 600.0
    max_upload_mb: options.MaxUploadMb = 1024
    max_recording_seconds: options.MaxRecordingSeconds = 14_400.0
    max_speech_characters: options.MaxSpeechCharacters = 4096
    feature_cache_mb: options.FeatureCacheMb = 256
    log_format: options.LogFormat = options.LogFormatName.TEXT
    otlp_endpoint: options.OtlpEndpoint = None
    cache_dir: options.CacheDir = None
    data_dir: options.DataDir = None
    response_store: options.ResponseStore = options.StoreKind.DISK
    response_store_max_mb: options.ResponseStoreMaxMb = 256
    response_store_max_age: options.ResponseStoreMaxAge = 30.0
    file_quota_mb: options.FileQuotaMb = 10_240
    file_quota_count: options.FileQuotaCount = 10_000

    @property
    def companions(self) -> dict[str, object]:
        """Adapters, draft models and hosts by their flags, those that were not given too."""
        return {
            "--adapter-path": self.adapter_path,
            "--adapter-dir": self.adapter_dir,
            "--draft-model": self.draft_model,
            "--hosts": self.hosts,
        }


def takes_flags(command: Callable[[typer.Context, LaunchFlags], None]) -> Callable[..., None]:
    """The command with each flag as a parameter of its own: typer reads options off a function's signature."""

    def with_parameters(context: typer.Context, **given: Any) -> None:
        command(context, LaunchFlags(**given))

    hints = get_type_hints(LaunchFlags, include_extras=True)
    parameters = [Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    parameters += [
        Parameter(flag.name, Parameter.KEYWORD_ONLY, default=flag.default, annotation=hints[flag.name])
        for flag in fields(LaunchFlags)
    ]
    with_parameters.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    with_parameters.__annotations__ = {each.name: each.annotation for each in parameters}
    with_parameters.__name__, with_parameters.__doc__ = command.__name__, command.__doc__
    return with_parameters
