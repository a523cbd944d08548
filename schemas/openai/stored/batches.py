"""`/v1/batches`: what clients send and get, and a line of a batch's file. Times are seconds since the epoch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from mlx_server.schemas.openai.stored.files import ExpiresAfter

Endpoint = Literal[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/rerank",
    "/v1/rerank",
    "/v2/rerank",
]
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
WINDOW = r"^([1-9]|[1-9][0-9]|[1-6][0-9]{2}|7[01][0-9]|720)h$|^([1-9]|[12][0-9]|30)d$"
UNITS_S = {"h": 3600, "d": 86_400}


class CreateBatch(msgspec.Struct, frozen=True):
    """Requests of a file, all for one endpoint, to be answered within hours (`24h`) or days (`7d`), 30 days at most."""

    input_file_id: str
    endpoint: Endpoint
    completion_window: Annotated[str, msgspec.Meta(pattern=WINDOW)]
    metadata: dict[str, Any] | None = None
    output_expires_after: ExpiresAfter | None = None


class LineBody(msgspec.Struct, frozen=True):
    """What is looked at in a request's body before it is run: the model, what no batch can do, and how it begins."""

    model: str | None = None
    stream: bool | None = None
    background: bool | None = None
    tools: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    query: msgspec.Raw = msgspec.Raw()

    @property
    def prompt_bytes(self) -> bytes:
        """The parts of a prompt as JSON, in the order in which a model reads them."""
        parts = (self.tools, self.system, self.instructions, self.messages, self.prompt, self.input, self.query)
        return b"".join(map(bytes, parts))


class Line(msgspec.Struct, frozen=True):
    """A request in a batch's file."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: msgspec.Raw


class BatchError(msgspec.Struct, frozen=True):
    """What is wrong with a file, and in which of its lines, counted from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(msgspec.Struct, frozen=True):
    """All that is wrong, or the first of it."""

    data: list[BatchError]
    object: Literal["list"] = "list"


class RequestCounts(msgspec.Struct, frozen=True):
    """Requests of a batch; those that are neither completed nor failed are still to be done, or never were."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(msgspec.Struct, frozen=True):
    """Of the tokens that were read."""

    cached_tokens: int


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """Of the tokens that were written."""

    reasoning_tokens: int


class BatchUsage(msgspec.Struct, frozen=True):
    """Tokens of all answers so far."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


WaitingFor = Literal["hours", "model", "turn"]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. `waiting_for` is why none of its lines runs: it is not the hours for batches, its model waits for
    memory or for someone to load it, or others' lines come first."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    waiting_for: WaitingFor | None = None


class BatchList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of batches."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


class LineAnswer(msgspec.Struct, frozen=True):
    """What a request was answered with."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class LineError(msgspec.Struct, frozen=True):
    """Why a request was never answered."""

    code: str
    message: str


class LineResult(msgspec.Struct, frozen=True):
    """A line of an output or error file."""

    id: str
    custom_id: str
    response: LineAnswer | None
    error: LineError | None


class Details(msgspec.Struct, frozen=True):
    """Of a usage, in the words of either of OpenAI's APIs."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class AnyUsage(msgspec.Struct, frozen=True):
    """A usage in the words of any API."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None


class AnswerUsage(msgspec.Struct, frozen=True):
    """What an answer of any API says of its cost."""

    usage: AnyUsage | None = None


def window_s(given: str) -> int:
    """A completion window in seconds."""
    return int(given[:-1]) * UNITS_S[given[-1]]


create_decoder = msgspec.json.Decoder(CreateBatch)
line_decoder = msgspec.json.Decoder(Line)
body_decoder = msgspec.json.Decoder(LineBody)
usage_decoder = msgspec.json.Decoder(AnswerUsage)
errors_decoder = msgspec.json.Decoder(list[BatchError])
metadata_decoder = msgspec.json.Decoder(dict[str, str])
