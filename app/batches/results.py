"""What is written of a line, in the words of the API that its batch is of."""

from __future__ import annotations

import contextlib

import msgspec

from mlx_server.app.batches.calls import LineAnswer, key_of, request_id
from mlx_server.app.batches.rows import Outcome, PendingLine, StoredBatch
from mlx_server.schemas.anthropic import batches as anthropic
from mlx_server.schemas.openai.stored import batches as schemas

EXPIRED = schemas.LineError("batch_expired", "The completion window of the batch ended before this request was run.")


def outcome_of(batch: StoredBatch, line: PendingLine, answer: LineAnswer) -> Outcome:
    """What became of a line that was answered."""
    body, ok = msgspec.Raw(answer.body), answer.status == 200
    result: msgspec.Struct
    if batch.anthropic:
        result = anthropic.MessageResult(line.custom_id, anthropic.Succeeded(body) if ok else anthropic.Errored(body))
    else:
        response = schemas.LineAnswer(answer.status, request_id(batch, line), body)
        result = schemas.LineResult(result_id(batch, line), line.custom_id, response, None)
    return Outcome(line.line, as_line(result), ok, True, *tokens_of(answer.body))


def not_run(batch: StoredBatch, line: PendingLine) -> Outcome:
    """What became of a line whose batch ended before."""
    if batch.anthropic:
        why = anthropic.NotRun("expired" if batch.cancelling is None else "canceled")
        return Outcome(line.line, as_line(anthropic.MessageResult(line.custom_id, why)), ok=False, counted=False)
    result = schemas.LineResult(result_id(batch, line), line.custom_id, None, EXPIRED)
    return Outcome(line.line, as_line(result), ok=False)


def result_id(batch: StoredBatch, line: PendingLine) -> str:
    """The id of a result."""
    return f"batch_req_{key_of(batch, line)}"


def as_line(result: msgspec.Struct) -> bytes:
    """A result as a line of a file."""
    return msgspec.json.encode(result) + b"\n"


def tokens_of(body: bytes) -> tuple[int, int, int, int]:
    """Tokens that an answer of any API says it has read, known, written and thought; zeros where it does not say."""
    usage = None
    with contextlib.suppress(msgspec.DecodeError):
        usage = schemas.usage_decoder.decode(body).usage
    if usage is None:
        return 0, 0, 0, 0
    nothing = schemas.Details()
    read = usage.prompt_tokens_details or usage.input_tokens_details or nothing
    written = usage.completion_tokens_details or usage.output_tokens_details or nothing
    return (
        usage.prompt_tokens or usage.input_tokens or 0,
        read.cached_tokens or usage.cache_read_input_tokens or 0,
        usage.completion_tokens or usage.output_tokens or 0,
        written.reasoning_tokens or 0,
    )
