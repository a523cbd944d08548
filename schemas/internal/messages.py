"""The messages between the front end's process and a worker process: one closed union per direction.

On the wire a message is a 4-byte big-endian length and MessagePack. Codecs are built once, here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from mlx_server.schemas.internal.generation import MediaKind, Prompt, Sampling, Speculate, ToolUse
from mlx_server.schemas.internal.hosts import Hosts
from mlx_server.schemas.internal.state_bits import StateBits
from mlx_server.schemas.internal.work import Work

FinishReason = Literal["stop", "length", "tool_calls"]

CpuDtype = Literal["auto", "packed", "float32", "native"]
"""How weights are held on a CPU."""


class FailureKind(StrEnum):
    """Why a request ended without a result; one table turns it into a status code."""

    INVALID = "invalid"
    ENGINE = "engine"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    SHUTTING_DOWN = "shutting_down"
    UNAVAILABLE = "unavailable"
    SLOW_READER = "slow_reader"
    CANCELLED = "cancelled"


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token that was or could have been chosen; `raw` are its bytes, not always whole characters.

    `logprob` is in nats, None for a prompt's first token, which nothing comes before. `id` is its place in the
    vocabulary.
    """

    text: str
    raw: bytes
    logprob: float | None
    id: int = 0


class ChosenToken(msgspec.Struct, frozen=True, array_like=True):
    """A token of an answer, and the most probable ones in its place, best first."""

    token: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


class PromptReport(msgspec.Struct, frozen=True, array_like=True):
    """What was asked for of a prompt's tokens: their ids; how probable the model found them, and the `ranks` they had,
    counted from 1 (0 for the first token, which nothing comes before)."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[ChosenToken, ...] = ()
    ranks: tuple[int, ...] = ()


class Text(msgspec.Struct, frozen=True, tag="t", array_like=True):
    """Visible text that one sequence produced; `tokens` is how many new tokens this event reports, and `ids` are theirs
    if they were asked for. `prompt` comes with a sequence's first event only."""

    ticket: int
    index: int
    text: str
    tokens: int
    logprobs: tuple[ChosenToken, ...] = ()
    ids: tuple[int, ...] = ()
    prompt: PromptReport | None = None


class Reasoning(msgspec.Struct, frozen=True, tag="r", array_like=True):
    """What a model thinks before it answers, without the marks round it."""

    ticket: int
    index: int
    text: str
    tokens: int
    ids: tuple[int, ...] = ()


class ToolCall(msgspec.Struct, frozen=True, tag="c", array_like=True):
    """A part of a function call. `call` counts a sequence's calls from 0; `id` and `name` come with the first part
    only, `arguments` is the next piece of their JSON."""

    ticket: int
    index: int
    call: int
    arguments: str
    tokens: int
    id: str | None = None
    name: str | None = None
    ids: tuple[int, ...] = ()


class Vector(msgspec.Struct, frozen=True, tag="v", array_like=True):
    """The embedding of one input: little-endian float32. `index` counts the request's inputs from 0."""

    ticket: int
    index: int
    values: bytes


class Score(msgspec.Struct, frozen=True, tag="p", array_like=True):
    """How relevant the two texts of a pair are to each other; more is better. `index` counts the request's pairs."""

    ticket: int
    index: int
    score: float


class Recording(msgspec.Struct, frozen=True, tag="m", array_like=True):
    """What a recording turned out to be: the English name of its language, empty where the model can't tell, and its
    length in seconds. It comes before the first `Segment`."""

    ticket: int
    index: int
    language: str
    duration_s: float


class Word(msgspec.Struct, frozen=True, array_like=True):
    """When a word is said, in seconds from the recording's beginning."""

    word: str
    start_s: float
    end_s: float


class Segment(msgspec.Struct, frozen=True, tag="e", array_like=True):
    """A piece of a transcript, in the order of the recording; times are in seconds from its beginning.

    `seek` is where the window began that the model heard, in hundredths of a second. `temperature`, `avg_logprob` (in
    nats per token), `compression_ratio` and `no_speech_prob` are what the model made of that window, None where its
    kind does not say. `words` and `logprobs` are there if they were asked for.
    """

    ticket: int
    index: int
    text: str
    start_s: float
    end_s: float
    seek: int = 0
    tokens: tuple[int, ...] = ()
    temperature: float | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None
    words: tuple[Word, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Sound(msgspec.Struct, frozen=True, tag="a", array_like=True):
    """The next bytes of speech, encoded as the request wants it."""

    ticket: int
    index: int
    data: bytes


class Picture(msgspec.Struct, frozen=True, tag="i", array_like=True):
    """A picture, encoded as the request wants it. `index` counts the request's pictures, `partial` the unfinished
    ones that come before each, from 0; None: it is finished."""

    ticket: int
    index: int
    data: bytes
    width: int
    height: int
    partial: int | None = None


class Finished(msgspec.Struct, frozen=True, tag="f", array_like=True):
    """The one end of a sequence that worked. Counts are in tokens; a prompt that several choices share counts once.

    `stop` is the stop string or the token's text that ended it, if the client named one. `mean_logprob` is in nats
    per token, 0 where it was not asked for. `drafted_tokens` were proposed, of which the answer has
    `accepted_tokens`. `encoded_media` counts the pictures and sounds that the model's encoders had to
    look at, `cached_media` those whose features were known.
    """

    ticket: int
    index: int
    reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    stop: str | None = None
    mean_logprob: float = 0.0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    encoded_media: int = 0
    cached_media: int = 0


class Failed(msgspec.Struct, frozen=True, tag="x", array_like=True):
    """The one end of a ticket that did not work, all its sequences with it.

    `retry_after_s`: nothing was done for it, and there may be a place in so many seconds.
    """

    ticket: int
    kind: FailureKind
    message: str
    param: str | None = None
    code: str | None = None
    retry_after_s: int | None = None


Part = Text | Reasoning | ToolCall
"""What a text is made of: a sequence's parts come in order, and `Finished` after the last."""

Result = Vector | Score | Recording | Segment | Sound | Picture
"""What is computed that is no conversation's text: each one comes once, and one `Finished` after the last. Vectors,
scores and pictures come in any order."""

Event = Part | Result | Finished | Failed


class Started(msgspec.Struct, frozen=True, tag="s", array_like=True):
    """A sequence's first token is there; it comes before it, if the request wants it announced. Counts are those of
    `Finished`."""

    ticket: int
    index: int
    prompt_tokens: int
    cached_tokens: int


class Prepared(msgspec.Struct, frozen=True, tag="q", array_like=True):
    """A request for text has become tokens, `prompt_tokens` in all, and may wait for rows. `ignored` are the paths of
    its fields that change nothing with this model; `dropped` is how many messages were left out, as it allows.
    `prefix_shortage`: its longest prompt needs so many bytes to be kept for the next turn, more than there are."""

    ticket: int
    prompt_tokens: int
    ignored: tuple[str, ...] = ()
    dropped: int = 0
    prefix_shortage: tuple[int, int] | None = None


class Progress(msgspec.Struct, frozen=True, tag="g", array_like=True):
    """How far a request is. For text: how many of its prompt's tokens have been read, or were known; it comes now and
    then until the first token. For other work `done` of `total`: seconds of a recording,
    characters of a text that is read aloud, steps of a picture."""

    ticket: int
    done: int
    total: int | None = None


StepEvent = Prepared | Started | Progress | Event


class ModelFacts(msgspec.Struct, frozen=True):
    """What a worker found out about the model it loaded.

    `context_length` is what the model takes, `max_model_len` what one request may have here: no more than memory holds.

    `reasoning`: it thinks before it answers. `chats`: it has a chat template that works. `tools` is the notation of its
    function calls, empty if it has none. `grammars`: its answers can be held to one. `media` is what its conversations
    may hold beside text. `dimensions` is the length of its embeddings, None if it makes none; `scoring` how it scores
    pairs of texts. `sampling` is what its authors recommend.

    `kept_tokens` is how many tokens of prompts it keeps for later ones.

    `transcribes`: it writes down what is said, in one of these `languages` if it names any. `speaks`: it reads aloud.
    `draws`: it makes pictures.
    """

    rows: int
    context_length: int | None
    vocab_size: int
    parameter_bytes: int
    architecture: str
    device: str
    fingerprint: str = ""
    notes: tuple[str, ...] = ()
    reasoning: bool = False
    chats: bool = True
    tools: str = ""
    grammars: bool = False
    media: tuple[MediaKind, ...] = ()
    dimensions: int | None = None
    scoring: Literal["cross_encoder", "embedding_similarity"] | None = None
    sampling: Sampling = Sampling()
    max_model_len: int | None = None
    kept_tokens: int = 0
    transcribes: bool = False
    languages: tuple[str, ...] = ()
    speaks: bool = False
    draws: bool = False


LeaseUse = Literal["auto", "on", "off"]
"""Whether worker processes take turns on the accelerator; `auto`: where there is one that wants it."""


PREFIX_SHARE = 0.25
"""What of the memory for KV states is for kept ones where nothing else was said."""


class MediaLimits(msgspec.Struct, frozen=True):
    """What a client's pictures and sounds may cost: a picture's pixels, a sound's or film's seconds, and the seconds
    that decoding all of a request's may take. A recording that is to be transcribed may have `recording_s` seconds."""

    image_pixels: int = 64_000_000
    duration_s: float = 600.0
    decode_s: float = 20.0
    recording_s: float = 14_400.0


class Load(msgspec.Struct, frozen=True, tag="load", array_like=True):
    """The first message: which model to serve, and how. `rows` is the most that may be batched together.

    `chat_template` takes the place of the model's own; `chat_template_args` are variables for it, where a request
    gives none; `use_default_chat_template` helps a model that has no template.

    `adapter_path` is the folder of the adapter for requests that name none, `adapter_dir` the folder of those that
    requests may name. `draft_model` proposes tokens, at most `draft_tokens` at a time.

    `context_length` bounds what prompt and answer may have together, in tokens; None: only the model does, and memory.

    `feature_cache_bytes` bounds the kept features of pictures, `prefix_cache_bytes` the kept KV states of prompts;
    None: `prefix_share` of what memory is left for KV states, or a conversation of the whole context if that takes
    more, but at most `prefix_most` bytes.

    `batch_tokens` are the tokens, padding included, that are embedded in one step. On a CPU it computes on `threads`
    cores, None for all that it may use.

    `lease`: whether it takes turns on the accelerator with the machine's other workers. `confined`: whether its process
    gives up what it does not need.

    While prompts are read, answers shall wait no longer than `max_gap_s` for a token; None: a few times as long as
    usual. KV states of prompts are also kept in `prompt_cache_dir`, up to `prompt_cache_bytes`. Those of requests that
    run together take no more than `kv_bytes`; None: most of what memory is left. `warm_prompt` is a text that is read
    before anyone asks. With `kv_bits` KV states are quantised. With `hosts` the worker is the first of several ranks.

    Its process holds no more than `memory_bytes`, None for what it wants: above that, kept prompts go, then new rows
    wait.
    """

    model_path: str
    model_type: str
    rows: int
    prefill_step_size: int
    cache_dir: str
    chat_template: str | None = None
    chat_template_args: dict[str, Any] = {}
    use_default_chat_template: bool = False
    adapter_path: str | None = None
    adapter_dir: str | None = None
    draft_model: str | None = None
    draft_tokens: int = 8
    media_limits: MediaLimits = MediaLimits()
    context_length: int | None = None
    feature_cache_bytes: int = 256 << 20
    prefix_cache_bytes: int | None = None
    prefix_share: float = PREFIX_SHARE
    prefix_most: int | None = None
    batch_tokens: int = 4096
    cpu_dtype: CpuDtype = "auto"
    lease: LeaseUse = "auto"
    confined: bool = True
    threads: int | None = None
    max_gap_s: float | None = None
    prompt_cache_dir: str | None = None
    prompt_cache_bytes: int = 10 << 30
    kv_bytes: int | None = None
    warm_prompt: str | None = None
    kv_bits: StateBits | None = None
    speculate: Speculate = "auto"
    memory_bytes: int | None = None
    hosts: Hosts | None = None


class Submit(msgspec.Struct, frozen=True, tag="submit", array_like=True):
    """A request to prepare now (template, tokenizer) and to run on `rows` rows, none yet if 0; `request_id` is for the
    log."""

    ticket: int
    request: Work
    rows: int
    request_id: str | None = None


class Grant(msgspec.Struct, frozen=True, tag="grant", array_like=True):
    """More rows for a submitted request."""

    ticket: int
    rows: int


class Park(msgspec.Struct, frozen=True, tag="park", array_like=True):
    """Stop a request whose rows are wanted, and keep what it has said: the next `Grant` lets it go on."""

    ticket: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel", array_like=True):
    """Forget a request; whatever it runs on is free at once. No answer comes."""

    ticket: int


class TokensOf(msgspec.Struct, frozen=True, tag="tokensof"):
    """Which tokens a prompt is. `want` is how much of them is told: the count, the ids too, or their texts too. What
    this `tenant` has sent before need not be tokenised again."""

    prompt: Prompt
    tool_use: ToolUse = ToolUse()
    want: Literal["count", "ids", "pieces"] = "ids"
    tenant: str | None = None


class TextOf(msgspec.Struct, frozen=True, tag="textof"):
    """Which text some tokens are."""

    ids: tuple[int, ...]


class PrefixOf(msgspec.Struct, frozen=True, tag="prefixof"):
    """How much of a prompt is kept from earlier ones of the same tenant that were read with the same adapter."""

    prompt: Prompt
    tool_use: ToolUse = ToolUse()
    tenant: str = ""
    adapter: str | None = None


Question = TokensOf | TextOf | PrefixOf
"""What can be said without a step of the model."""


class Ask(msgspec.Struct, frozen=True, tag="ask", array_like=True):
    """A question, which is answered by one `Answered` with the same number."""

    number: int
    question: Question


class Withdraw(msgspec.Struct, frozen=True, tag="withdraw", array_like=True):
    """Nobody waits for this answer any more; it may still come."""

    number: int


class Bound(msgspec.Struct, frozen=True, tag="bound", array_like=True):
    """The worker's process may hold no more than `limit_bytes` from now on; None: what it wants."""

    limit_bytes: int | None = None


class Canary(msgspec.Struct, frozen=True, tag="canary", array_like=True):
    """Decode one token, of nobody's request; answered by one `CanaryEnded`."""


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True):
    """Release the model and exit with code 0."""


ToWorker = Load | Submit | Grant | Park | Cancel | Ask | Withdraw | Bound | Canary | Stop


class Loading(msgspec.Struct, frozen=True, tag="loading", array_like=True):
    """How far the start has come: `done` of `total` in bytes, both 0 where a phase can't tell.

    `computes`: what comes next is for the accelerator.
    """

    phase: str
    done: int = 0
    total: int = 0
    computes: bool = False


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True):
    """The model answers; `facts.rows` credits are granted."""

    facts: ModelFacts


class LoadFailed(msgspec.Struct, frozen=True, tag="loadfailed", array_like=True):
    """The model can't be served, or not any more; the worker exits after this."""

    message: str


class Step(msgspec.Struct, frozen=True, tag="step", array_like=True):
    """All that one step of the engine produced."""

    events: list[StepEvent]


class Tokens(msgspec.Struct, frozen=True, tag="tokens"):
    """A prompt's tokens, as far as was asked; `pieces` are as the vocabulary writes them."""

    count: int
    ids: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()


class Decoded(msgspec.Struct, frozen=True, tag="decoded"):
    """The text of some tokens."""

    text: str


class KeptPrefix(msgspec.Struct, frozen=True, tag="keptprefix"):
    """What is kept that a prompt of `count` tokens begins with.

    `cached` of its tokens would not be computed again. Of what is kept and most alike, `nearest` tokens in all, the
    first `alike` are the same: the prompt differs from there on, in the message with the index `message` (None where
    that can't be told), with a token that is the text `piece`.
    """

    count: int
    cached: int = 0
    alike: int = 0
    nearest: int = 0
    message: int | None = None
    piece: str | None = None


class NoAnswer(msgspec.Struct, frozen=True, tag="noanswer"):
    """Why there is none."""

    kind: FailureKind
    message: str
    param: str | None = None
    code: str | None = None


class Answered(msgspec.Struct, frozen=True, tag="answered", array_like=True):
    """The answer to an `Ask`."""

    number: int
    answer: Tokens | Decoded | KeptPrefix | NoAnswer


class CanaryEnded(msgspec.Struct, frozen=True, tag="canaryended", array_like=True):
    """How the last `Canary` ended: with a token, or with why there is none."""

    error: str | None = None


class MlxMemory(msgspec.Struct, frozen=True, array_like=True):
    """What MLX says of its memory, in bytes: what arrays have now, and what is kept for reuse.

    `unified`: it is the machine's own memory, not an accelerator's. Of what arrays have, `prompts` are KV states that
    are kept for later requests, and `features` those of pictures.
    """

    active: int
    cache: int
    unified: bool
    prompts: int = 0
    features: int = 0


class Heartbeat(msgspec.Struct, frozen=True, tag="beat", array_like=True):
    """The worker's loop lives; `step_s` is how long the engine has been inside its current step, in seconds.

    `memory` is as it was after the last step, None before a model is loaded.
    """

    step_s: float
    memory: MlxMemory | None = None


FromWorker = Loading | Ready | LoadFailed | Step | Answered | CanaryEnded | Heartbeat

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
