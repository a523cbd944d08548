"""The command line: a thin typed shell round the settings. Heavy imports stand inside commands."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from mlx_server.app import __version__, models_cli
from mlx_server.app.settings import MediaAccess, Settings, default_cache_dir, default_data_dir
from mlx_server.app.template_options import parse_arguments, read_template
from mlx_server.workers.model_path import ModelPathError, local_path

ENV_PREFIX = "MLX_SERVER"
MAX_SECONDS = 10_000_000.0
EXIT_MODEL = 3
EXIT_ADDRESS = 4
MEDIA = "Pictures, sounds and films"
DEFAULT_ROWS = {"embeddings": 256, "rerank": 256}
"""Requests that are computed together, where that is not 8: these share out their batches by themselves."""

app = typer.Typer(
    help="Serve MLX models over OpenAI's API, with a bounded queue and a worker process for each model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_cli.app, name="models")
stderr = Console(stderr=True)


def option(text: str, **more: Any) -> Any:
    """An option that is shown with its environment variable."""
    return typer.Option(help=text, show_envvar=True, **more)


class ModelKind(StrEnum):
    """What a model is served as; scripted ones are for tests."""

    LM = "lm"
    VLM = "vlm"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    SCRIPTED = "scripted"


WITHOUT_COMPANIONS = (ModelKind.VLM, ModelKind.EMBEDDINGS, ModelKind.RERANK)
"""What is served as it is, without adapters and draft models."""


class DemoModel(StrEnum):
    """Small real models that can be fetched without a hub."""

    SMOLLM2 = "smollm2"
    MINILM = "minilm"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class StoreKind(StrEnum):
    """Where responses are kept."""

    DISK = "disk"
    MEMORY = "memory"
    OFF = "off"


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


def checked_keys(keys: list[str] | None) -> list[str] | None:
    """Keys that are none are refused, else everybody would have one. Raises typer.BadParameter."""
    if any(not key.strip() for key in keys or ()):
        raise typer.BadParameter("an empty key would let everybody in; leave the option out to need none.")
    return keys


def check_companions(kind: ModelKind, companions: dict[str, object]) -> None:
    """Adapters and draft models, by their flags, are for models that write texts only. Raises typer.BadParameter."""
    given = [flag for flag, value in companions.items() if value is not None]
    if given and kind in WITHOUT_COMPANIONS:
        raise typer.BadParameter(f"means nothing for --model-type {kind.value}.", param_hint=f"'{given[0]}'")


@app.command(context_settings={"auto_envvar_prefix": ENV_PREFIX})
def launch(
    model_path: Annotated[
        str,
        option("What to serve: an MLX model folder, a .gguf file (converted once and cached), or a hub repository id."),
    ],
    model_type: Annotated[
        ModelKind,
        option(
            "What the model is served as: lm writes text, vlm also looks at pictures, embeddings makes vectors, rerank"
            " scores documents with a cross-encoder.",
            metavar="lm|vlm|embeddings|rerank",
        ),
    ] = ModelKind.LM,
    model_name: Annotated[
        str | None, option("The model's public name. Default: the folder's name or the hub id.")
    ] = None,
    host: Annotated[
        str, option("Address to listen on. 0.0.0.0 lets other machines in: add --api-key then.")
    ] = "127.0.0.1",
    port: Annotated[int, option("Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    max_concurrency: Annotated[
        int | None,
        option(
            "Sequences that are computed together, as rows of a batch. Default: 8, or 256 requests for embeddings and"
            " rerank.",
            min=1,
            max=1024,
        ),
    ] = None,
    queue_size: Annotated[int, option("Requests that may wait; more are refused with 429.", min=0, max=100_000)] = 100,
    queue_timeout: Annotated[
        float, option("Seconds a request may take in all, waiting included.", min=0.001, max=MAX_SECONDS)
    ] = 300.0,
    drain_timeout: Annotated[
        float, option("Seconds that running requests get when the server stops.", min=0, max=MAX_SECONDS)
    ] = 30.0,
    default_max_tokens: Annotated[
        int, option("Most tokens of an answer to a request that sets no limit.", min=1)
    ] = 4096,
    prefill_step_size: Annotated[
        int,
        option("Most tokens of a prompt that are computed at a time.", min=16, max=65536),
    ] = 512,
    max_body_bytes: Annotated[
        int, option("Largest request body, in bytes; also what the files it names may have together.", min=1024)
    ] = 32 << 20,
    strict_params: Annotated[
        bool, option("Refuse requests with fields that nobody knows, instead of naming them in X-Ignored-Fields.")
    ] = False,
    step_timeout: Annotated[
        float, option("Seconds after which a hanging step has its worker restarted.", min=1, max=MAX_SECONDS)
    ] = 300.0,
    api_key: Annotated[
        list[str] | None,
        option(
            "A key that clients must send (Bearer or x-api-key); repeat it for several. None: any is accepted.",
            callback=checked_keys,
        ),
    ] = None,
    chat_template: Annotated[
        Path | None,
        option("A file with a Jinja chat template, in place of the model's own.", exists=True, dir_okay=False),
    ] = None,
    chat_template_args: Annotated[
        str | None,
        option("Variables for the chat template, as a JSON object; a request's own win.", metavar="JSON"),
    ] = None,
    use_default_chat_template: Annotated[bool, option("Use a ChatML template if the model has none.")] = False,
    log_level: Annotated[LogLevel, option("How much is logged.")] = LogLevel.INFO,
    cache_dir: Annotated[Path | None, option("Where converted models are kept.", file_okay=False)] = None,
    data_dir: Annotated[Path | None, option("Where responses are kept.", file_okay=False)] = None,
    response_store: Annotated[
        StoreKind, option("Where /v1/responses keeps responses: in the data directory, in memory, or nowhere.")
    ] = StoreKind.DISK,
    response_store_max_mb: Annotated[
        int, option("Largest size of the kept responses, in MB; those used least recently go.", min=1, max=1_000_000)
    ] = 256,
    response_store_max_age: Annotated[
        float, option("Days that a response is kept after its last use.", min=0.001, max=100_000)
    ] = 30.0,
    adapter_path: Annotated[
        Path | None,
        option("Folder of a LoRA adapter, for all requests that name none.", exists=True, file_okay=False),
    ] = None,
    adapter_dir: Annotated[
        Path | None,
        option("Folder of adapter folders that requests may name in `adapters`.", exists=True, file_okay=False),
    ] = None,
    draft_model: Annotated[
        str | None,
        option("A small model that proposes tokens to requests that ask for it (speculative decoding)."),
    ] = None,
    num_draft_tokens: Annotated[int, option("Tokens that the draft model proposes at a time.", min=1, max=64)] = 3,
    media_urls: Annotated[
        bool, option("Fetch the http(s) URLs of pictures and sounds that requests name.", rich_help_panel=MEDIA)
    ] = True,
    private_media_urls: Annotated[
        bool,
        option(
            "Also fetch from this machine and from private networks: clients then reach what you reach.",
            rich_help_panel=MEDIA,
        ),
    ] = False,
    allowed_media_dir: Annotated[
        Path | None,
        option(
            "Folder whose files requests may name with file:// URLs.",
            exists=True,
            file_okay=False,
            rich_help_panel=MEDIA,
        ),
    ] = None,
    max_media_mb: Annotated[
        int, option("Largest picture or sound file, in MB.", min=1, max=100_000, rich_help_panel=MEDIA)
    ] = 20,
    max_media_files: Annotated[
        int, option("Most pictures and sounds in one request.", min=0, max=10_000, rich_help_panel=MEDIA)
    ] = 16,
    media_timeout: Annotated[
        float,
        option(
            "Seconds for fetching, and again for decoding, all files of a request.",
            min=0.1,
            max=MAX_SECONDS,
            rich_help_panel=MEDIA,
        ),
    ] = 20.0,
    max_image_pixels: Annotated[
        int, option("Most pixels of one picture.", min=1024, max=1 << 28, rich_help_panel=MEDIA)
    ] = 64_000_000,
    max_media_seconds: Annotated[
        float, option("Longest sound or film, in seconds.", min=0.1, max=MAX_SECONDS, rich_help_panel=MEDIA)
    ] = 600.0,
    feature_cache_mb: Annotated[
        int,
        option(
            "Memory for what a vision model has seen in pictures, in MB; 0 keeps none.",
            min=0,
            max=1_000_000,
            rich_help_panel=MEDIA,
        ),
    ] = 256,
    prefix_cache_mb: Annotated[
        int,
        option(
            "Memory for prompts and answers that others may begin with (KV states), in MB; 0 keeps none.",
            min=0,
            max=1_000_000,
        ),
    ] = 1024,
    prompt_cache_dir: Annotated[
        Path | None,
        option("A folder for what is kept of prompts, to be known after a restart too.", file_okay=False),
    ] = None,
    prompt_cache_mb: Annotated[
        int, option("What may be kept in --prompt-cache-dir, in MB.", min=1, max=100_000_000)
    ] = 10_240,
    max_itl_ms: Annotated[
        float | None,
        option(
            "Longest gap between an answer's tokens while others' prompts are read, in ms."
            " None: 2.25 times the usual one.",
            min=1,
            max=60_000,
        ),
    ] = None,
    kv_memory_mb: Annotated[
        int | None,
        option("Memory for the KV states of requests that run together, in MB; more wait.", min=1, max=100_000_000),
    ] = None,
    kv_bits: Annotated[
        int | None,
        option(
            "Quantise KV states to so many bits (4 to 8), for long contexts. Excludes batching (requests run one at a"
            " time), a draft model and --prompt-cache-dir.",
            min=4,
            max=8,
        ),
    ] = None,
    warm_prompt: Annotated[
        Path | None,
        option(
            "A file with a system prompt that is read at the start, before anyone asks.", exists=True, dir_okay=False
        ),
    ] = None,
    batch_tokens: Annotated[
        int, option("Tokens, padding included, that are embedded or scored in one step.", min=16, max=1 << 24)
    ] = 4096,
) -> None:
    """Load a model and serve it.

    Example: mlx-server launch --model-path mlx-community/Qwen3-0.6B-4bit --max-concurrency 16
    """
    from mlx_server.schemas.messages import MediaLimits
    from mlx_server.workers.supervisor import Patience

    check_companions(
        model_type, {"--adapter-path": adapter_path, "--adapter-dir": adapter_dir, "--draft-model": draft_model}
    )
    if model_type is not ModelKind.SCRIPTED:
        try:
            local_path(model_path)
            if draft_model is not None:
                local_path(draft_model)
        except ModelPathError as error:
            fail(str(error), EXIT_MODEL)
    serve(
        Settings(
            model_path=model_path,
            model_type=model_type.value,
            model_name=model_name,
            host=host,
            port=port,
            max_concurrency=max_concurrency or DEFAULT_ROWS.get(model_type, 8),
            queue_size=queue_size,
            queue_timeout_s=queue_timeout,
            drain_timeout_s=drain_timeout,
            default_max_tokens=default_max_tokens,
            prefill_step_size=prefill_step_size,
            max_body_bytes=max_body_bytes,
            strict_params=strict_params,
            api_keys=tuple(api_key or ()),
            chat_template=read_template(chat_template),
            chat_template_args=parse_arguments(chat_template_args),
            use_default_chat_template=use_default_chat_template,
            log_level=log_level.value,
            cache_dir=cache_dir or default_cache_dir(),
            data_dir=data_dir or default_data_dir(),
            response_store=response_store.value,
            response_store_max_bytes=response_store_max_mb << 20,
            response_store_max_age_s=response_store_max_age * 86_400,
            patience=Patience(step_s=step_timeout),
            adapter_path=adapter_path,
            adapter_dir=adapter_dir,
            draft_model=draft_model,
            num_draft_tokens=num_draft_tokens,
            media=MediaAccess(
                media_urls, private_media_urls, allowed_media_dir, max_media_mb << 20, max_media_files, media_timeout
            ),
            media_limits=MediaLimits(max_image_pixels, max_media_seconds, media_timeout),
            feature_cache_bytes=feature_cache_mb << 20,
            prefix_cache_bytes=prefix_cache_mb << 20,
            batch_tokens=batch_tokens,
            max_gap_s=None if max_itl_ms is None else max_itl_ms / 1000,
            prompt_cache_dir=prompt_cache_dir,
            prompt_cache_bytes=prompt_cache_mb << 20,
            kv_bytes=None if kv_memory_mb is None else kv_memory_mb << 20,
            kv_bits=kv_bits,
            warm_prompt=None if warm_prompt is None else warm_prompt.read_text(),
        )
    )


@app.command()
def demo(
    model: Annotated[
        DemoModel,
        typer.Option(
            help="smollm2 writes text (SmolLM2-135M-Instruct, 93 MB); minilm embeds (all-MiniLM-L6-v2, 84 MB)."
        ),
    ] = DemoModel.SMOLLM2,
    cache_dir: Annotated[
        Path | None, option("Where the model is kept.", file_okay=False, envvar=f"{ENV_PREFIX}_CACHE_DIR")
    ] = None,
) -> None:
    """Fetch a demo model, once, and print its folder."""
    from mlx_server.app.demo import ensure_demo_model
    from mlx_server.app.demo_models import SOURCES, DemoModelError

    try:
        folder = ensure_demo_model(cache_dir or default_cache_dir(), stderr, source=SOURCES[model])
    except DemoModelError as error:
        fail(str(error), EXIT_MODEL)
    typer.echo(folder)


def serve(settings: Settings) -> None:
    """Run the server; ends the process with an exit code that tells what went wrong."""
    import logging

    import uvloop

    from mlx_server.app.runner import AddressError, listen, run

    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s server %(message)s", stream=sys.stderr
    )
    # Its debug messages name the hosts of clients' URLs.
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    try:
        sock = listen(settings.host, settings.port)
    except AddressError as error:
        fail(str(error), EXIT_ADDRESS)
    if not settings.api_keys and settings.host not in ("127.0.0.1", "localhost", "::1"):
        stderr.print(f"Warning: anyone who reaches {settings.host} may use this server: there is no --api-key.")
    problem = uvloop.run(run(settings, sock, stderr))
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
