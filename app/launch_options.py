"""The options of `mlx-server launch`, each a type of its own: what it may be, and what its help says."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mlx_server.app.settings import ORIGIN, USUAL_RATES

ENV_PREFIX = "MLX_SERVER"
MAX_SECONDS = 10_000_000.0
MAX_MEGABYTES = 1_000_000
AUTO = "auto"
MEDIA = "Pictures, sounds and films"


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


class LogLevelName(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LeaseMode(StrEnum):
    """Whether workers take turns."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class StoreKind(StrEnum):
    """Where responses are kept."""

    DISK = "disk"
    MEMORY = "memory"
    OFF = "off"


class CpuWeights(StrEnum):
    """How weights are held on a CPU."""

    AUTO = "auto"
    FLOAT32 = "float32"
    NATIVE = "native"


def model_kind(given: str) -> ModelKind:
    """A type of model by its name. Raises typer.BadParameter."""
    try:
        return ModelKind(given)
    except ValueError:
        kinds = ", ".join(repr(kind.value) for kind in ModelKind if kind is not ModelKind.SCRIPTED)
        raise typer.BadParameter(f"{given!r} is not one of {kinds}.") from None


def checked_keys(keys: list[str] | None) -> list[str] | None:
    """Keys that are none are refused, else everybody would have one. Raises typer.BadParameter."""
    if any(not key.strip() for key in keys or ()):
        raise typer.BadParameter("an empty key would let everybody in; leave the option out to need none.")
    return keys


def checked_origins(origins: list[str] | None) -> list[str] | None:
    """Origins as browsers send them. Raises typer.BadParameter."""
    found = [origin.rstrip("/").lower() for origin in origins or ()]
    for origin in found:
        if not re.match(ORIGIN, origin, re.ASCII):
            raise typer.BadParameter(f"{origin!r} is no origin: write 'https://example.com', with its port, or '*'.")
    return found or None


def checked_megabytes(given: str) -> str:
    """A number of MB, or `auto`. Raises typer.BadParameter."""
    if given != AUTO and not (given.isascii() and given.isdigit() and int(given) <= MAX_MEGABYTES):
        raise typer.BadParameter(f"{given!r} is no size: {AUTO!r} or 0 to {MAX_MEGABYTES} is allowed.")
    return given


def bytes_of(megabytes: str) -> int | None:
    """Checked megabytes in bytes; None for what memory allows."""
    return None if megabytes == AUTO else int(megabytes) << 20


def checked_rates(rates: str | None) -> str | None:
    """Rates that can be read; `on` means the usual ones. Raises typer.BadParameter."""
    if rates is None or rates == "off":
        return None
    if rates == "on":
        return USUAL_RATES
    from limits import parse_many

    try:
        good = all(rate.amount > 0 for rate in parse_many(rates))
    except ValueError:
        good = False
    if not good:
        raise typer.BadParameter(f"{rates!r} is no rate: write '100/minute', '100/minute; 10/second', 'on' or 'off'.")
    return rates


ModelPath = Annotated[
    str | None,
    option("What to serve: an MLX model folder, a .gguf file (converted once and cached), or a hub repository id."),
]
Model = Annotated[
    list[str] | None,
    option("Another model to serve: its path, or NAME=PATH. Repeat it for several.", metavar="[NAME=]PATH"),
]
Config = Annotated[
    Path | None, option("A TOML file with a table for each model. SIGHUP has it read again.", dir_okay=False)
]
ModelsDir = Annotated[
    Path | None,
    option("Folder of models that requests may name by their paths in it.", exists=True, file_okay=False),
]
MaxModels = Annotated[int | None, option("Most models that are loaded at a time.", min=1)]
MemoryLimit = Annotated[
    str | None,
    option("Memory that all models may have: GB, or a share of the machine's, such as 80%.", metavar="GB|%"),
]
IdleTimeout = Annotated[
    float,
    option("Minutes without a request after which a model that was loaded on demand is unloaded; 0: never.", min=0),
]
Pin = Annotated[
    list[str] | None, option("A configured model that is never unloaded to make room; repeat it for several.")
]
AutoLoad = Annotated[bool, option("Load a model when a request names it.")]
AutoDownload = Annotated[bool, option("Download models whose hub id a request names.")]
AcceleratorLease = Annotated[
    LeaseMode, option("Whether worker processes take turns on the accelerator: auto does on Metal.")
]
ModelType = Annotated[
    ModelKind | None,
    option(
        "What the model is served as: lm writes text, vlm also looks at pictures, embeddings makes vectors, rerank"
        " scores documents with a cross-encoder. Default: what its files say.",
        metavar="lm|vlm|embeddings|rerank",
        parser=model_kind,
    ),
]
ModelName = Annotated[str | None, option("The model's public name. Default: the folder's name or the hub id.")]
Host = Annotated[
    str,
    option(
        "Address to listen on. 0.0.0.0 lets other machines in: add --api-key then.",
        envvar=[f"{ENV_PREFIX}_HOST", "MLX_GUI_HOST"],
    ),
]
Port = Annotated[
    int,
    option("Port; 0 takes a free one.", min=0, max=65535, envvar=[f"{ENV_PREFIX}_PORT", "MLX_GUI_PORT"]),
]
MaxConcurrency = Annotated[
    int | None,
    option(
        "Sequences that are computed together, as rows of a batch. Default: 8, or 256 requests for embeddings and"
        " rerank.",
        min=1,
        max=4096,
    ),
]
Replicas = Annotated[
    int, option("Worker processes that serve the model side by side, each with its own copy of it.", min=1, max=64)
]
QueueSize = Annotated[int, option("Requests that may wait; more are refused with 429.", min=0, max=100_000)]
QueueTimeout = Annotated[
    float,
    option(
        "Seconds that a request may wait for its first token, and then for each next one.", min=0.001, max=MAX_SECONDS
    ),
]
RequestTimeout = Annotated[
    float, option("Seconds that a request may take in all, waiting included; 0: no limit.", min=0, max=MAX_SECONDS)
]
Keepalive = Annotated[
    float,
    option(
        "Seconds until a stream that has no token yet begins, and then shows signs of life; 0: never.",
        min=0,
        max=MAX_SECONDS,
    ),
]
DrainTimeout = Annotated[
    float, option("Seconds that running requests get when the server stops.", min=0, max=MAX_SECONDS)
]
DefaultMaxTokens = Annotated[
    int | None,
    option("Most tokens of an answer to a request that sets no limit. Default: what the context has room for.", min=1),
]
ContextLength = Annotated[
    int | None,
    option("Most tokens that a prompt and its answer may have together. Default: the model's context.", min=16),
]
PrefillStepSize = Annotated[
    int,
    option("Most tokens of a prompt that are computed at a time.", min=16, max=65536),
]
MaxBodyBytes = Annotated[
    int, option("Largest request body, in bytes; also what the files it names may have together.", min=1024)
]
StrictParams = Annotated[
    bool, option("Refuse requests with fields that nobody knows, instead of naming them in X-Ignored-Fields.")
]
StepTimeout = Annotated[
    float, option("Seconds after which a hanging step has its worker restarted.", min=1, max=MAX_SECONDS)
]
ApiKey = Annotated[
    list[str] | None,
    option(
        "A key that clients must send (Bearer or x-api-key); repeat it for several. None: any is accepted.",
        callback=checked_keys,
    ),
]
CorsOrigin = Annotated[
    list[str] | None,
    option(
        "A site whose pages may use this server in a browser, such as http://localhost:3000; repeat it for several; *"
        " for all. Default: none.",
        callback=checked_origins,
    ),
]
RateLimit = Annotated[
    str | None,
    option(
        "Requests that each client may make, such as '100/minute; 10/second', which is what 'on' means. Clients are"
        " told apart by their key, else by their address.",
        callback=checked_rates,
        metavar="RATES|on",
    ),
]
ChatTemplate = Annotated[
    Path | None,
    option("A file with a Jinja chat template, in place of the model's own.", exists=True, dir_okay=False),
]
ChatTemplateArgs = Annotated[
    str | None,
    option("Variables for the chat template, as a JSON object; a request's own win.", metavar="JSON"),
]
UseDefaultChatTemplate = Annotated[bool, option("Use a ChatML template if the model has none.")]
LogLevel = Annotated[
    LogLevelName,
    option("How much is logged.", case_sensitive=False, envvar=[f"{ENV_PREFIX}_LOG_LEVEL", "MLX_OMNI_LOG_LEVEL"]),
]
CacheDir = Annotated[Path | None, option("Where converted models are kept.", file_okay=False)]
DataDir = Annotated[Path | None, option("Where responses are kept.", file_okay=False)]
ResponseStore = Annotated[
    StoreKind, option("Where /v1/responses keeps responses: in the data directory, in memory, or nowhere.")
]
ResponseStoreMaxMb = Annotated[
    int, option("Largest size of the kept responses, in MB; those used least recently go.", min=1, max=1_000_000)
]
ResponseStoreMaxAge = Annotated[
    float, option("Days that a response is kept after its last use.", min=0.001, max=100_000)
]
AdapterPath = Annotated[
    Path | None,
    option("Folder of a LoRA adapter, for all requests that name none.", exists=True, file_okay=False),
]
AdapterDir = Annotated[
    Path | None,
    option("Folder of adapter folders that requests may name in `adapters`.", exists=True, file_okay=False),
]
DraftModel = Annotated[
    str | None,
    option("A small model that proposes tokens to requests that ask for it (speculative decoding)."),
]
NumDraftTokens = Annotated[int, option("Tokens that the draft model proposes at a time.", min=1, max=64)]
MediaUrls = Annotated[
    bool, option("Fetch the http(s) URLs of pictures and sounds that requests name.", rich_help_panel=MEDIA)
]
PrivateMediaUrls = Annotated[
    bool,
    option(
        "Also fetch from this machine and from private networks: clients then reach what you reach.",
        rich_help_panel=MEDIA,
    ),
]
AllowedMediaDir = Annotated[
    Path | None,
    option(
        "Folder whose files requests may name with file:// URLs.",
        exists=True,
        file_okay=False,
        rich_help_panel=MEDIA,
    ),
]
MaxMediaMb = Annotated[int, option("Largest picture or sound file, in MB.", min=1, max=100_000, rich_help_panel=MEDIA)]
MaxMediaFiles = Annotated[
    int, option("Most different pictures and sounds in one request.", min=0, max=10_000, rich_help_panel=MEDIA)
]
MediaTimeout = Annotated[
    float,
    option(
        "Seconds for fetching, and again for decoding, all files of a request.",
        min=0.1,
        max=MAX_SECONDS,
        rich_help_panel=MEDIA,
    ),
]
MaxImagePixels = Annotated[int, option("Most pixels of one picture.", min=1024, max=1 << 28, rich_help_panel=MEDIA)]
MaxMediaSeconds = Annotated[
    float, option("Longest sound or film, in seconds.", min=0.1, max=MAX_SECONDS, rich_help_panel=MEDIA)
]
FeatureCacheMb = Annotated[
    int,
    option(
        "Memory for what a vision model has seen in pictures, in MB; 0 keeps none.",
        min=0,
        max=1_000_000,
        rich_help_panel=MEDIA,
    ),
]
PrefixCacheMb = Annotated[
    str,
    option(
        "Memory for prompts and answers that others may begin with (KV states), in MB; 0 keeps none. auto: a quarter of"
        " what is free for KV states, and at least one conversation of the whole context.",
        callback=checked_megabytes,
        metavar="MB|auto",
    ),
]
PromptCacheDir = Annotated[
    Path | None,
    option("A folder for what is kept of prompts, to be known after a restart too.", file_okay=False),
]
PromptCacheMb = Annotated[int, option("What may be kept in --prompt-cache-dir, in MB.", min=1, max=100_000_000)]
MaxItlMs = Annotated[
    float | None,
    option(
        "Longest gap between an answer's tokens while others' prompts are read, in ms. None: 2.3 times the usual one.",
        min=1,
        max=60_000,
    ),
]
KvMemoryMb = Annotated[
    int | None,
    option("Memory for the KV states of requests that run together, in MB; more wait.", min=1, max=100_000_000),
]
KvBits = Annotated[
    int | None,
    option(
        "Quantise KV states to so many bits (4 to 8), for long contexts. Excludes batching (requests run one at a"
        " time), a draft model and --prompt-cache-dir.",
        min=4,
        max=8,
    ),
]
WarmPrompt = Annotated[
    Path | None,
    option("A file with a system prompt that is read at the start, before anyone asks.", exists=True, dir_okay=False),
]
BatchTokens = Annotated[
    int, option("Tokens, padding included, that are embedded or scored in one step.", min=16, max=1 << 24)
]
CpuDtype = Annotated[
    CpuWeights,
    option(
        "How weights are held where MLX computes on a CPU: auto makes them float32 if memory allows, float32 in any"
        " case, native leaves them as they are stored."
    ),
]
