"""The command line: a thin typed shell round the settings. Heavy imports stand inside commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from mlx_server.app import __version__
from mlx_server.app.cli import connect_cli, doctor_cli, models_cli, ps_cli
from mlx_server.app.cli import launch_options as options
from mlx_server.app.cli.commands import Command, Commands, Launch
from mlx_server.app.cli.model_flags import models_of_flags, pinned
from mlx_server.app.cli.template_options import parse_arguments, read_template
from mlx_server.app.config.settings import (
    MediaAccess,
    ModelSettings,
    Settings,
    default_cache_dir,
    default_data_dir,
)
from mlx_server.workers.folders.model_path import ModelPathError, local_path
from mlx_server.workers.parent.environment import backend_problem, mlx_backends

EXIT_USAGE = 2
EXIT_MODEL = 3
EXIT_ADDRESS = 4
FIELDS = {
    "idle_timeout": "idle_timeout_s",
    "keepalive": "keepalive_s",
    "memory_limit": "memory_limit_bytes",
    "accelerator_lease": "lease",
    "cors_origin": "cors_origins",
}
"""Options whose fields of the settings are called otherwise."""

app = typer.Typer(
    help="Serve MLX models over OpenAI's API, with a bounded queue and a worker process for each model.",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_cli.app, name="models")
app.command()(doctor_cli.doctor)
app.command()(ps_cli.ps)
app.command()(connect_cli.connect)
stderr = Console(stderr=True)


WITHOUT_COMPANIONS = (options.ModelKind.VLM, options.ModelKind.EMBEDDINGS, options.ModelKind.RERANK)
"""What is served as it is, without adapters and draft models."""


class DemoModel(StrEnum):
    """Small real models that can be fetched without a hub."""

    SMOLLM2 = "smollm2"
    MINILM = "minilm"


def print_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        typer.echo(f"mlx-server {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve MLX models over OpenAI's API, with a bounded queue and a worker process for each model."""


def check_companions(kind: options.ModelKind | None, companions: dict[str, object]) -> None:
    """Adapters and draft models, by their flags, are for models that write texts only. Raises typer.BadParameter."""
    given = [flag for flag, value in companions.items() if value is not None]
    if given and kind is not None and kind in WITHOUT_COMPANIONS:
        raise typer.BadParameter(f"means nothing for --model-type {kind.value}.", param_hint=f"'{given[0]}'")


@app.command(cls=Launch, context_settings={"auto_envvar_prefix": options.ENV_PREFIX, "allow_extra_args": True})
def launch(
    context: typer.Context,
    model_path: options.ModelPath = None,
    model: options.Model = None,
    config: options.Config = None,
    models_dir: options.ModelsDir = None,
    max_models: options.MaxModels = None,
    memory_limit: options.MemoryLimit = None,
    idle_timeout: options.IdleTimeout = 30.0,
    pin: options.Pin = None,
    auto_load: options.AutoLoad = True,
    auto_download: options.AutoDownload = False,
    model_type: options.ModelType = None,
    model_name: options.ModelName = None,
    replicas: options.Replicas = 1,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    api_key: options.ApiKey = None,
    cors_origin: options.CorsOrigin = None,
    rate_limit: options.RateLimit = None,
    max_body_bytes: options.MaxBodyBytes = 32 << 20,
    strict_params: options.StrictParams = False,
    max_concurrency: options.MaxConcurrency = None,
    queue_size: options.QueueSize = 100,
    queue_timeout: options.QueueTimeout = 300.0,
    request_timeout: options.RequestTimeout = 0.0,
    keepalive: options.Keepalive = 10.0,
    drain_timeout: options.DrainTimeout = 30.0,
    step_timeout: options.StepTimeout = 300.0,
    default_max_tokens: options.DefaultMaxTokens = None,
    context_length: options.ContextLength = None,
    chat_template: options.ChatTemplate = None,
    chat_template_args: options.ChatTemplateArgs = None,
    use_default_chat_template: options.UseDefaultChatTemplate = False,
    warm_prompt: options.WarmPrompt = None,
    prefix_cache_mb: options.PrefixCacheMb = options.AUTO,
    prompt_cache_dir: options.PromptCacheDir = None,
    prompt_cache_mb: options.PromptCacheMb = 10_240,
    kv_memory_mb: options.KvMemoryMb = None,
    kv_bits: options.KvBits = None,
    prefill_step_size: options.PrefillStepSize = 512,
    max_itl_ms: options.MaxItlMs = None,
    batch_tokens: options.BatchTokens = 4096,
    cpu_dtype: options.CpuDtype = options.CpuWeights.AUTO,
    accelerator_lease: options.AcceleratorLease = options.LeaseMode.AUTO,
    adapter_path: options.AdapterPath = None,
    adapter_dir: options.AdapterDir = None,
    draft_model: options.DraftModel = None,
    num_draft_tokens: options.NumDraftTokens = 3,
    media_urls: options.MediaUrls = True,
    private_media_urls: options.PrivateMediaUrls = False,
    allowed_media_dir: options.AllowedMediaDir = None,
    max_media_mb: options.MaxMediaMb = 20,
    max_media_files: options.MaxMediaFiles = 16,
    media_timeout: options.MediaTimeout = 20.0,
    max_image_pixels: options.MaxImagePixels = 64_000_000,
    max_media_seconds: options.MaxMediaSeconds = 600.0,
    feature_cache_mb: options.FeatureCacheMb = 256,
    log_level: options.LogLevel = options.LogLevelName.INFO,
    cache_dir: options.CacheDir = None,
    data_dir: options.DataDir = None,
    response_store: options.ResponseStore = options.StoreKind.DISK,
    response_store_max_mb: options.ResponseStoreMaxMb = 256,
    response_store_max_age: options.ResponseStoreMaxAge = 30.0,
) -> None:
    """Load models and serve them.

    Example: mlx-server launch --model-path mlx-community/Qwen3-0.6B-4bit --max-concurrency 16
    """
    from mlx_server.app.config.config_file import ConfigError, models_of, read_config, server_of
    from mlx_server.app.config.memory_limit import parse_memory_limit
    from mlx_server.app.registry.app_settings import with_stored
    from mlx_server.app.registry.stored import keys_of, read_stored
    from mlx_server.schemas.internal.messages import MediaLimits
    from mlx_server.workers.parent.supervisor import Patience

    companions: dict[str, object] = {
        "--adapter-path": adapter_path,
        "--adapter-dir": adapter_dir,
        "--draft-model": draft_model,
    }
    check_companions(model_type, companions)
    if model_type is not options.ModelKind.SCRIPTED and (problem := backend_problem(mlx_backends())) is not None:
        fail(problem, EXIT_MODEL)
    defaults = ModelSettings(
        path="",
        max_concurrency=max_concurrency,
        replicas=replicas,
        queue_size=queue_size,
        queue_timeout_s=queue_timeout,
        request_timeout_s=request_timeout or None,
        default_max_tokens=default_max_tokens,
        context_length=context_length,
        prefill_step_size=prefill_step_size,
        chat_template=read_template(chat_template),
        chat_template_args=parse_arguments(chat_template_args),
        use_default_chat_template=use_default_chat_template,
        feature_cache_bytes=feature_cache_mb << 20,
        prefix_cache_bytes=options.bytes_of(prefix_cache_mb),
        batch_tokens=batch_tokens,
        cpu_dtype=cpu_dtype.value,
        max_gap_s=None if max_itl_ms is None else max_itl_ms / 1000,
        prompt_cache_dir=prompt_cache_dir,
        prompt_cache_bytes=prompt_cache_mb << 20,
        kv_bytes=None if kv_memory_mb is None else kv_memory_mb << 20,
        kv_bits=kv_bits,
        warm_prompt=None if warm_prompt is None else warm_prompt.read_text(),
    )
    given_own = replace(
        defaults,
        adapter_path=adapter_path,
        adapter_dir=adapter_dir,
        draft_model=draft_model,
        num_draft_tokens=num_draft_tokens,
    )
    try:
        limit_bytes = None if memory_limit is None else parse_memory_limit(memory_limit)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--memory-limit") from None
    try:
        if draft_model is not None and model_type is not options.ModelKind.SCRIPTED:
            local_path(draft_model)
        named = models_of_flags(
            given_own,
            model_type.value if model_type else None,
            model_path=model_path,
            model_name=model_name,
            models=model or (),
            companions=any(value is not None for value in companions.values()),
        )
    except ModelPathError as error:
        fail(str(error), EXIT_MODEL)
    flags = Settings(
        models=named,
        defaults=defaults,
        models_dir=models_dir,
        config=config,
        max_models=max_models,
        memory_limit_bytes=limit_bytes,
        idle_timeout_s=idle_timeout * 60,
        auto_load=auto_load,
        auto_download=auto_download,
        lease=accelerator_lease.value,
        host=host,
        port=port,
        keepalive_s=keepalive,
        drain_timeout_s=drain_timeout,
        max_body_bytes=max_body_bytes,
        strict_params=strict_params,
        api_keys=tuple(api_key or ()),
        cors_origins=tuple(cors_origin or ()),
        rate_limit=rate_limit,
        log_level=log_level.value,
        cache_dir=cache_dir or default_cache_dir(),
        data_dir=data_dir or default_data_dir(),
        response_store=response_store.value,
        response_store_max_bytes=response_store_max_mb << 20,
        response_store_max_age_s=response_store_max_age * 86_400,
        patience=Patience(step_s=step_timeout),
        media=MediaAccess(
            media_urls, private_media_urls, allowed_media_dir, max_media_mb << 20, max_media_files, media_timeout
        ),
        media_limits=MediaLimits(max_image_pixels, max_media_seconds, media_timeout),
    )
    given = frozenset(
        FIELDS.get(name, name)
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name != "DEFAULT"
    )

    def read() -> Settings:
        """The settings as the flags, the configuration file and clients give them now. Raises ConfigError."""
        return with_stored(configured(), read_stored(flags.data_dir), keys_of(given))

    def configured() -> Settings:
        """The same without what clients have set. Raises ConfigError."""
        if config is None:
            return replace(flags, models=pinned(named, pin or ()))
        found = read_config(config)
        models = named + models_of(found, config, defaults)
        try:
            return server_of(found, config, replace(flags, models=pinned(models, pin or ())), given)
        except typer.BadParameter as error:
            raise ConfigError(f"{config}: {error.message}") from None

    try:
        if folder := read_stored(flags.data_dir).get("huggingface_cache_dir"):
            # Before anybody asks the hub's client, which reads it once; workers see it too.
            os.environ.setdefault("HF_HUB_CACHE", str(folder))
        serve(read(), read)
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)


@app.command(cls=Command)
def demo(
    model: Annotated[
        DemoModel,
        typer.Option(
            help="smollm2 writes text (SmolLM2-135M-Instruct, 93 MB); minilm embeds (all-MiniLM-L6-v2, 84 MB)."
        ),
    ] = DemoModel.SMOLLM2,
    cache_dir: Annotated[
        Path | None,
        options.option("Where the model is kept.", file_okay=False, envvar=f"{options.ENV_PREFIX}_CACHE_DIR"),
    ] = None,
) -> None:
    """Fetch a demo model, once, and print its folder."""
    from mlx_server.app.cli.demo import ensure_demo_model
    from mlx_server.app.cli.demo_models import SOURCES, DemoModelError

    try:
        folder = ensure_demo_model(cache_dir or default_cache_dir(), stderr, source=SOURCES[model])
    except DemoModelError as error:
        fail(str(error), EXIT_MODEL)
    typer.echo(folder)


def serve(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Run the server, and end the process with an exit code that tells what went wrong.

    `reread` gives the settings as they are later.
    """
    import logging

    import uvloop

    from mlx_server.app.cli.console import ConsoleHandler
    from mlx_server.app.cli.runner import AddressError, listen, run

    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)-7s server %(message)s",
        handlers=[ConsoleHandler(stderr)],
    )
    # Its debug messages name the hosts of clients' URLs.
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    try:
        sock = listen(settings.host, settings.port)
    except AddressError as error:
        fail(str(error), EXIT_ADDRESS)
    if not settings.api_keys and settings.host not in ("127.0.0.1", "localhost", "::1"):
        stderr.print(f"Warning: anyone who reaches {settings.host} may use this server: there is no --api-key.")
    problem = uvloop.run(run(settings, sock, stderr, reread))
    if problem:
        fail(problem, EXIT_MODEL)


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, and the end."""
    stderr.print("Error:", style="bold red", end=" ")
    stderr.print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def main() -> None:
    """The `mlx-server` command."""
    app()
