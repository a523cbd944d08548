"""The options of `mlx-server launch`, each a type of its own: what it may be, and what its help says."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mlx_server.app.config.cluster import ADDRESS as CLUSTER
from mlx_server.app.config.origins import parse_origin
from mlx_server.app.config.public_url import parse_public_url
from mlx_server.app.config.settings import USUAL_RATES
from mlx_server.schemas.internal.state_bits import StateBits

ENV_PREFIX = "MLX_SERVER"
MAX_SECONDS = 10_000_000.0
MAX_MEGABYTES = 1_000_000
AUTO = "auto"
OTLP_VARIABLE = f"{ENV_PREFIX}_OTLP_ENDPOINT"

MOST_USED = "Most used"
MODELS = "Models"
ADDRESS = "Access"
QUEUE = "Queue and timeouts"
PROMPTS = "Prompts and answers"
KV_STATES = "KV states"
COMPUTING = "Computing"
COMPANIONS = "Adapters and draft models"
MEDIA = "Pictures, sounds and films"
FILES = "Files and logs"


def option(text: str, panel: str | None = None, *, default: str | None = None, **more: Any) -> Any:
    """An option of a panel of the help, shown with its environment variable.

    `default` says what holds where the option is not given and has no value of its own.
    """
    return typer.Option(
        help=text, rich_help_panel=panel, show_envvar=True, show_default=True if default is None else default, **more
    )


class ModelKind(StrEnum):
    """What a model is served as; scripted ones are for tests."""

    LM = "lm"
    VLM = "vlm"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    AUDIO = "audio"
    IMAGE = "image"
    SCRIPTED = "scripted"


class LogLevelName(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormatName(StrEnum):
    """What a line of the log is."""

    TEXT = "text"
    JSON = "json"


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


class BackendName(StrEnum):
    """What MLX's processes talk over."""

    RING = "ring"
    JACCL = "jaccl"
    JACCL_RING = "jaccl-ring"
    NCCL = "nccl"
    MPI = "mpi"


class SpeculateMode(StrEnum):
    """Whether tokens are guessed from a text's own repetitions."""

    OFF = "off"
    NGRAM = "ngram"
    AUTO = "auto"


class CpuWeights(StrEnum):
    """How weights are held on a CPU."""

    AUTO = "auto"
    PACKED = "packed"
    FLOAT32 = "float32"
    NATIVE = "native"


def model_kind(given: str) -> ModelKind:
    """A type of model by its name. Raises typer.BadParameter."""
    try:
        return ModelKind(given)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is not one of {', '.join(map(repr, model_kinds('')))}.") from None


def model_kinds(begun: str) -> list[str]:
    """Types of models for people whose names begin so."""
    return [kind.value for kind in ModelKind if kind is not ModelKind.SCRIPTED and kind.value.startswith(begun)]


def state_bits(given: str) -> StateBits:
    """Bits of KV states. Raises typer.BadParameter."""
    try:
        return StateBits.parse(given)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


def checked_keys(keys: list[str] | None) -> list[str] | None:
    """Keys that are none are refused, else everybody would have one. Raises typer.BadParameter."""
    if any(not key.strip() for key in keys or ()):
        raise typer.BadParameter("an empty key would let everybody in; leave the option out to need none.")
    return keys


def checked_host(host: str) -> str:
    """An address that is none would be every one. Raises typer.BadParameter."""
    if not host.strip():
        raise typer.BadParameter("an empty address would let everybody in; write 0.0.0.0 to have that.")
    return host


def checked_origins(origins: list[str] | None) -> list[str] | None:
    """Origins as browsers send them. Raises typer.BadParameter."""
    try:
        return list(map(parse_origin, origins or ())) or None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def checked_public_url(url: str | None) -> str | None:
    """An address that links begin with. Raises typer.BadParameter."""
    try:
        return None if url is None else parse_public_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def checked_megabytes(given: str) -> str:
    """A number of MB, or `auto`. Raises typer.BadParameter."""
    if given != AUTO and not (given.isascii() and given.isdigit() and int(given) <= MAX_MEGABYTES):
        raise typer.BadParameter(f"{given!r} is no size: {AUTO!r} or 0 to {MAX_MEGABYTES} is allowed.")
    return given


def bytes_of(megabytes: str) -> int | None:
    """Checked megabytes in bytes; None for what memory allows."""
    return None if megabytes == AUTO else int(megabytes) << 20


def checked_cluster(address: str | None) -> str | None:
    """An address of Ray's. Raises typer.BadParameter."""
    if address is not None and re.match(CLUSTER, address) is None:
        raise typer.BadParameter(f"{address!r} is no address of a Ray cluster: write ray://HOST:PORT, or auto.")
    return address


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
    option(
        "What to serve: an MLX model folder, a .gguf file (converted once and cached; of one in parts any of them), or"
        " a hub repository id.",
        MOST_USED,
    ),
]
Model = Annotated[
    list[str] | None,
    option("Another model to serve: its path, or NAME=PATH. Repeat it for several.", MOST_USED, metavar="[NAME=]PATH"),
]
Config = Annotated[
    Path | None,
    option("A TOML file with a table for each model. SIGHUP has it read again.", MOST_USED, dir_okay=False),
]
ModelsDir = Annotated[
    Path | None,
    option("Folder of models that requests may name by their paths in it.", MOST_USED, exists=True, file_okay=False),
]
ModelType = Annotated[
    ModelKind | None,
    option(
        "What the model is served as: lm writes text, vlm also looks at pictures, embeddings makes vectors, rerank"
        " scores documents with a cross-encoder, audio hears or speaks, image draws.",
        MOST_USED,
        default="what its files say",
        metavar="lm|vlm|embeddings|rerank|audio|image",
        parser=model_kind,
        autocompletion=model_kinds,
    ),
]
ModelName = Annotated[
    str | None,
    option(
        "The model's public name, in answers and in /v1/models.", MOST_USED, default="the folder's name or the hub id"
    ),
]
AutoDownload = Annotated[bool, option("Download models whose hub id a request names.", MOST_USED)]
MemoryLimit = Annotated[
    str | None,
    option(
        "Memory that all models may have: GiB, or a share of the machine's, such as 80%.",
        MOST_USED,
        default="80%, or Metal's working set",
        metavar="GiB|%",
    ),
]
IdleTimeout = Annotated[
    float,
    option(
        "Minutes without a request after which a model that was loaded on demand is unloaded; 0: never.",
        MOST_USED,
        min=0,
    ),
]
Host = Annotated[
    str,
    option(
        "Address to listen on. 0.0.0.0 lets other machines in: add --api-key then.",
        MOST_USED,
        envvar=[f"{ENV_PREFIX}_HOST", "MLX_GUI_HOST"],
        callback=checked_host,
    ),
]
Port = Annotated[
    int,
    option("Port; 0 takes a free one.", MOST_USED, min=0, max=65535, envvar=[f"{ENV_PREFIX}_PORT", "MLX_GUI_PORT"]),
]
ApiKey = Annotated[
    list[str] | None,
    option(
        "A key that clients must send (Bearer or x-api-key); repeat it for several. None: any is accepted.",
        MOST_USED,
        callback=checked_keys,
    ),
]
CorsOrigin = Annotated[
    list[str] | None,
    option(
        "A site whose pages may use this server in a browser, such as http://localhost:3000; repeat it for several; *"
        " for all, without credentials.",
        MOST_USED,
        callback=checked_origins,
    ),
]
MaxConcurrency = Annotated[
    int | None,
    option(
        "Sequences that are computed together, as rows of a batch; 1 serves one after the other.",
        MOST_USED,
        default="8, or 256 requests for embeddings and rerank, 16 for audio, 4 for image",
        min=1,
        max=4096,
    ),
]
QueueSize = Annotated[
    int,
    option("Requests that may wait beside those that run; more are refused with 429.", MOST_USED, min=0, max=100_000),
]
IdleRows = Annotated[
    int,
    option(
        "Rows that idle requests (X-Priority: idle, batches) may hold beside others; 0: they make way at once.",
        QUEUE,
        min=0,
        max=4096,
    ),
]
DefaultMaxTokens = Annotated[
    int | None,
    option(
        "Most tokens of an answer to a request that sets no limit.",
        MOST_USED,
        default="what the context has room for",
        min=1,
    ),
]
ContextLength = Annotated[
    int | None,
    option(
        "Most tokens that a prompt and its answer may have together.", MOST_USED, default="the model's context", min=16
    ),
]
AdapterPath = Annotated[
    Path | None,
    option("Folder of a LoRA adapter, for all requests that name none.", MOST_USED, exists=True, file_okay=False),
]
DraftModel = Annotated[
    str | None,
    option(
        "A small model or a draft head that proposes tokens where that is faster (speculative decoding): folder, .gguf"
        " file or hub id.",
        MOST_USED,
    ),
]
LogLevel = Annotated[
    LogLevelName,
    option(
        "How much is logged; prompts and answers never are.",
        MOST_USED,
        case_sensitive=False,
        envvar=[f"{ENV_PREFIX}_LOG_LEVEL", "MLX_OMNI_LOG_LEVEL"],
    ),
]
MaxModels = Annotated[
    int | None, option("Most models that are loaded at a time.", MODELS, default="as many as fit", min=1)
]
Pin = Annotated[
    list[str] | None, option("A configured model that is never unloaded to make room; repeat it for several.", MODELS)
]
AutoLoad = Annotated[
    bool,
    option("Load a model when a request names it; otherwise a request for one that is not loaded gets a 400.", MODELS),
]
Replicas = Annotated[
    int,
    option("Worker processes that serve the model side by side, each with its own copy of it.", MODELS, min=1, max=64),
]
Hosts = Annotated[
    Path | None,
    option(
        "A host file of MLX's: the model is spread over its hosts, of which this machine is the first (docs/scale.md).",
        MODELS,
        exists=True,
        dir_okay=False,
    ),
]
DistributedBackend = Annotated[
    BackendName | None,
    option("What carries arrays between the hosts.", MODELS, default="the host file's, else ring, or nccl with CUDA"),
]
ClusterAddress = Annotated[
    str | None,
    option(
        "Have Ray place the workers on a cluster's nodes: ray://HOST:PORT, or auto on a machine that is one of them"
        " (docs/scale.md).",
        MODELS,
        default="workers run on this machine",
        callback=checked_cluster,
        metavar="ray://HOST:PORT|auto",
    ),
]
PublicUrl = Annotated[
    str | None,
    option(
        "Where clients find the server if a proxy stands before it, such as https://models.example.com: links in"
        " answers begin with it. No header of a proxy's is believed.",
        ADDRESS,
        default="where a request found it",
        callback=checked_public_url,
        metavar="URL",
    ),
]
RateLimit = Annotated[
    str | None,
    option(
        "Requests that each client may make, such as '100/minute; 10/second', which is what 'on' means; more get a 429."
        " Clients are told apart by their key, else by their address.",
        ADDRESS,
        callback=checked_rates,
        metavar="RATES|on",
    ),
]
MaxBodyBytes = Annotated[
    int,
    option(
        "Largest request body, in bytes; also what the files it names may have together. A larger one gets a 413.",
        ADDRESS,
        min=1024,
    ),
]
StrictParams = Annotated[
    bool, option("Refuse requests with fields that nobody knows, instead of naming them in X-Ignored-Fields.", ADDRESS)
]
QueueTimeout = Annotated[
    float,
    option(
        "Seconds that a request may wait for its first token, and then for each next one; then it ends with 504.",
        QUEUE,
        min=0.001,
        max=MAX_SECONDS,
    ),
]
RequestTimeout = Annotated[
    float,
    option("Seconds that a request may take in all, waiting included; 0: no limit.", QUEUE, min=0, max=MAX_SECONDS),
]
Keepalive = Annotated[
    float,
    option(
        "Seconds until a stream that has no token yet begins, and then shows signs of life; 0: never.",
        QUEUE,
        min=0,
        max=MAX_SECONDS,
    ),
]
ResumeSeconds = Annotated[
    float,
    option(
        "Seconds that an answer to a request with an Idempotency-Key is made without a client, and kept after its end.",
        QUEUE,
        min=0,
        max=MAX_SECONDS,
    ),
]
BatchHours = Annotated[
    str | None,
    option("Hours at which batches run, by this machine's clock, such as 22:00-06:00.", QUEUE, default="at any time"),
]
DrainTimeout = Annotated[
    float,
    option(
        "Seconds that running requests get when the server stops (SIGTERM or Ctrl-C).", QUEUE, min=0, max=MAX_SECONDS
    ),
]
StepTimeout = Annotated[
    float, option("Seconds after which a hanging step has its worker restarted.", QUEUE, min=1, max=MAX_SECONDS)
]
Standby = Annotated[
    bool,
    option(
        "Keep a worker process ready that has imported all but a model, so that a restart or another model takes only"
        " its weights; about 100 MB, and none where memory is short.",
        MODELS,
    ),
]
ConfineWorkers = Annotated[
    bool,
    option(
        "On Linux workers write to their own folders only, and open no connections once their model is there"
        " (SECURITY.md); off where a driver needs more.",
        ADDRESS,
    ),
]
CanaryInterval = Annotated[
    float,
    option(
        "Seconds without work after which a worker is asked for a token; one that gives none is restarted. 0: never.",
        QUEUE,
        min=0,
        max=MAX_SECONDS,
    ),
]
ChatTemplate = Annotated[
    Path | None,
    option("A file with a Jinja chat template.", PROMPTS, default="the model's own", exists=True, dir_okay=False),
]
ChatTemplateArgs = Annotated[
    str | None,
    option(
        """Variables for the chat template, such as '{"enable_thinking": false}'; a request's own win.""",
        PROMPTS,
        metavar="JSON",
    ),
]
UseDefaultChatTemplate = Annotated[bool, option("Use a ChatML template if the model has none.", PROMPTS)]
WarmPrompt = Annotated[
    Path | None,
    option(
        "A file with a system prompt that is read at the start, before anyone asks.",
        PROMPTS,
        exists=True,
        dir_okay=False,
    ),
]
PrefixCacheMb = Annotated[
    str,
    option(
        "Memory for prompts and answers that later ones may begin with, in MB; 0 keeps none. auto: a quarter of what"
        " is free for KV states, and at least one conversation of the whole context.",
        KV_STATES,
        callback=checked_megabytes,
        metavar="MB|auto",
    ),
]
PromptCacheDir = Annotated[
    Path | None,
    option(
        "A folder where they are kept, too, to be known after a restart (models that write text only).",
        KV_STATES,
        file_okay=False,
    ),
]
PromptCacheMb = Annotated[
    int, option("What may be kept in --prompt-cache-dir, in MB.", KV_STATES, min=1, max=100_000_000)
]
KvMemoryMb = Annotated[
    int | None,
    option(
        "Memory for the KV states of requests that run together, in MB; more wait.",
        KV_STATES,
        default="most of what is free",
        min=1,
        max=100_000_000,
    ),
]
KvBits = Annotated[
    StateBits | None,
    option(
        "Quantise KV states of a model that writes text to 4, 5, 6 or 8 bits, so that longer contexts fit."
        " 4x12,8x6,4x12 takes 4 bits for the first 12 layers, 8 for the next 6, and 4 for the last 12.",
        KV_STATES,
        metavar="BITS|BITSxLAYERS,...",
        parser=state_bits,
    ),
]
PrefillStepSize = Annotated[
    int,
    option("Most tokens of a prompt that are computed at a time.", COMPUTING, min=16, max=65536),
]
MaxItlMs = Annotated[
    float | None,
    option(
        "Longest gap between an answer's tokens while others' prompts are read, in ms.",
        COMPUTING,
        default="2.3 times the usual gap",
        min=1,
        max=60_000,
    ),
]
BatchTokens = Annotated[
    int,
    option(
        "Tokens, padding included, that are embedded or scored in one step; on a CPU at most 384.",
        COMPUTING,
        min=16,
        max=1 << 24,
    ),
]
CpuDtype = Annotated[
    CpuWeights,
    option(
        "How weights are held where MLX computes on a CPU: auto leaves quantised ones packed where that is faster"
        " and makes all others float32 if memory allows; packed leaves them so in any case, float32 dequantises them,"
        " native leaves all as they are stored, which is slow.",
        COMPUTING,
    ),
]
AcceleratorLease = Annotated[
    LeaseMode, option("Whether worker processes take turns on the accelerator: auto does on Metal.", COMPUTING)
]
Speculate = Annotated[
    SpeculateMode,
    option(
        "Guess tokens from what the prompt and the answer have said before, or with a --draft-model, and check several"
        " in one step; answers stay the same. auto: where it is faster, as measured; ngram: whenever something has been"
        " said before.",
        COMPUTING,
    ),
]
AdapterDir = Annotated[
    Path | None,
    option("Folder of adapter folders that requests may name in `adapters`.", COMPANIONS, exists=True, file_okay=False),
]
NumDraftTokens = Annotated[
    int,
    option(
        "Tokens that the draft model proposes at a time, at most; how many of them pay is measured.",
        COMPANIONS,
        min=1,
        max=64,
    ),
]
MediaUrls = Annotated[
    bool,
    option(
        "Fetch the http(s) URLs of pictures and sounds that requests name; otherwise they are only taken as data.",
        MEDIA,
    ),
]
PrivateMediaUrls = Annotated[
    bool,
    option("Also fetch from this machine and from private networks: clients then reach what you reach.", MEDIA),
]
AllowedMediaDir = Annotated[
    Path | None,
    option("Folder whose files requests may name with file:// URLs.", MEDIA, exists=True, file_okay=False),
]
MaxMediaMb = Annotated[int, option("Largest picture or sound file, in MB.", MEDIA, min=1, max=100_000)]
MaxMediaFiles = Annotated[int, option("Most different pictures and sounds in one request.", MEDIA, min=0, max=10_000)]
MediaTimeout = Annotated[
    float,
    option("Seconds for fetching, and again for decoding, all files of a request.", MEDIA, min=0.1, max=MAX_SECONDS),
]
MaxImagePixels = Annotated[int, option("Most pixels of one picture.", MEDIA, min=1024, max=1 << 28)]
MaxMediaSeconds = Annotated[float, option("Longest sound or film, in seconds.", MEDIA, min=0.1, max=MAX_SECONDS)]
MaxUploadMb = Annotated[
    int,
    option(
        "Largest form with files, such as a recording to transcribe, in MB; it lies on disk. A larger one gets a 413.",
        MEDIA,
        min=1,
        max=MAX_MEGABYTES,
    ),
]
MaxRecordingSeconds = Annotated[
    float, option("Longest recording that is transcribed, in seconds.", MEDIA, min=0.1, max=MAX_SECONDS)
]
MaxSpeechCharacters = Annotated[
    int, option("Longest text that is read aloud, in characters.", MEDIA, min=1, max=10_000_000)
]
FeatureCacheMb = Annotated[
    int,
    option("Memory for what a vision model has seen in pictures, in MB; 0 keeps none.", MEDIA, min=0, max=1_000_000),
]
LogFormat = Annotated[
    LogFormatName,
    option("Lines for people, or an object of JSON in each line.", FILES, case_sensitive=False),
]
OtlpEndpoint = Annotated[
    str | None,
    option(
        "Send a trace of each request to this OpenTelemetry collector, by OTLP over HTTP (http://127.0.0.1:4318).",
        FILES,
        default="no traces",
        envvar=[OTLP_VARIABLE, "OTEL_EXPORTER_OTLP_ENDPOINT"],
    ),
]
CacheDir = Annotated[
    Path | None,
    option("Where converted models are kept.", FILES, default="the user's cache folder", file_okay=False),
]
DataDir = Annotated[
    Path | None,
    option(
        "Where responses and the registry of models are kept.",
        FILES,
        default="the user's data folder",
        file_okay=False,
    ),
]
ResponseStore = Annotated[
    StoreKind, option("Where /v1/responses keeps responses: in the data directory, in memory, or nowhere.", FILES)
]
ResponseStoreMaxMb = Annotated[
    int, option("Largest size of the kept responses, in MB; those used least recently go.", FILES, min=1, max=1_000_000)
]
ResponseStoreMaxAge = Annotated[
    float,
    option("Days that a response is kept after it was made or last continued.", FILES, min=0.001, max=100_000),
]
FileQuotaMb = Annotated[
    int,
    option("Most that the files of one key may have together, in MB.", FILES, min=1, max=MAX_MEGABYTES),
]
FileQuotaCount = Annotated[int, option("Most files that one key may keep.", FILES, min=1, max=10_000_000)]
