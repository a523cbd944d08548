"""Anthropic's `/v1/messages/batches`: the same batches in its words."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from mlx_server.app.batches.batch_store import OUTPUT
from mlx_server.app.batches.rows import UNFINISHED, StoredBatch
from mlx_server.app.files.file_store import new_file
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.links import link_to
from mlx_server.app.http.services import services
from mlx_server.app.routes.generation import read_request
from mlx_server.app.routes.offline.files import id_of
from mlx_server.app.routes.query import number, query_of
from mlx_server.app.routes.stored_items import Page, as_json, owner_of
from mlx_server.app.storage.durable import sync_file
from mlx_server.schemas.anthropic import batches as schemas
from mlx_server.schemas.internal.errors import InvalidRequest

RESULTS = "message_batch_results"
"""The name of the route of results."""

JSONL = "application/x-jsonl"
WINDOW = "24h"
WINDOW_S = 86_400
MOST_LISTED = 1000


async def batches(request: Request) -> Response:
    """Begin a batch, or list those that there are."""
    return await (create(request) if request.method == "POST" else list_batches(request))


async def create(request: Request) -> Response:
    """Begin a batch. Raises InvalidRequest."""
    given, ignored = await read_request(request, schemas.create_decoder, {})
    lines = await to_thread.run_sync(given.lines)
    found = services(request)
    now = int(found.files.clock())
    batch = StoredBatch(
        number=0,
        id=f"msgbatch_{uuid.uuid4().hex}",
        owner=owner_of(request),
        anthropic=True,
        endpoint=schemas.MESSAGES,
        input_file="",
        window=WINDOW,
        metadata=b"{}",
        output_lifetime=None,
        status="validating",
        created=now,
        expires=now + WINDOW_S,
        total=len(given.requests),
    )
    source = await to_thread.run_sync(written, lines, found.files.incoming)
    try:
        made = await found.batches.create(batch, source)
    finally:
        source.unlink(missing_ok=True)
    await found.batch_runner.look_at(made)
    return as_json(to_batch(request, made), ignored_header(ignored))


async def list_batches(request: Request) -> Response:
    """A page of them, the newest first."""
    query = query_of(request, ("limit", "after_id", "before_id"))
    limit = number(query.get("limit", "20"), "limit", 1, MOST_LISTED)
    if "after_id" in query and "before_id" in query:
        raise InvalidRequest("`before_id` and `after_id` can't both be given.", "before_id")
    name, back = ("before_id", True) if "before_id" in query else ("after_id", False)
    page = Page(limit, back, query.get(name), name)
    found = await services(request).batches.page(
        owner_of(request), after=page.after, limit=page.limit + 1, ascending=page.ascending, anthropic=True
    )
    if found is None:
        raise page.unknown("batch")
    shown = [to_batch(request, batch) for batch in found]
    return as_json(schemas.MessageBatchList(**page.fields(shown, back=page.ascending)))


async def one(request: Request) -> Response:
    """A batch as it is now, or gone. Raises HTTPException 404, or InvalidRequest for one that has not ended."""
    batch = await batch_of(request)
    if request.method != "DELETE":
        return as_json(to_batch(request, batch))
    if batch.status in UNFINISHED:
        raise InvalidRequest("The batch has not ended: cancel it first.")
    await services(request).batches.delete(batch)
    return as_json(schemas.MessageBatchDeleted(batch.id))


async def cancel(request: Request) -> Response:
    """End a batch; what is done stays. Raises HTTPException 404, or InvalidRequest for one that has ended."""
    batch = await batch_of(request)
    if await services(request).batches.cancel(batch.id, batch.owner, anthropic=True):
        await services(request).batch_runner.look_at(batch)
    now = await batch_of(request)
    if now.cancelling is None:
        raise InvalidRequest("The batch has ended and can't be canceled any more.")
    return as_json(to_batch(request, now))


async def results(request: Request) -> Response:
    """A line for each request. Raises HTTPException 404, also before the batch has ended."""
    batch = await batch_of(request)
    if batch.status in UNFINISHED:
        raise HTTPException(404, f"The batch {batch.id} has not ended: it has no results yet.")
    if not batch.output_bytes:
        return Response(media_type=JSONL)  # where nothing came of any request, there is no file
    path = services(request).batches.path(batch, OUTPUT)
    return FileResponse(path, media_type=JSONL, filename=f"{batch.id}_results.jsonl")


async def batch_of(request: Request) -> StoredBatch:
    """The batch of the path. Raises HTTPException 404."""
    found = await services(request).batches.get(id_of(request), owner_of(request), anthropic=True)
    if found is None:
        raise HTTPException(404, f"There is no batch {id_of(request)[:200]!r}.")
    return found


def to_batch(request: Request, batch: StoredBatch) -> schemas.MessageBatch:
    """A batch as clients see it."""
    ended_at = batch.completed or batch.failed or batch.expired or batch.cancelled
    ended = batch.status not in UNFINISHED
    return schemas.MessageBatch(
        id=batch.id,
        processing_status="ended" if ended else "canceling" if batch.status == "cancelling" else "in_progress",
        request_counts=counts_of(batch) if ended else schemas.MessageCounts(batch.total),
        created_at=at(batch.created),
        expires_at=at(batch.expires),
        ended_at=at(ended_at) if ended and ended_at else None,
        cancel_initiated_at=at(batch.cancelling) if batch.cancelling else None,
        results_url=link_to(request, RESULTS, id=batch.id) if ended else None,
    )


def counts_of(batch: StoredBatch) -> schemas.MessageCounts:
    """What became of the requests of a batch that has ended."""
    rest = batch.total - batch.done - batch.wrong
    canceled = rest if batch.status == "cancelled" else 0
    return schemas.MessageCounts(0, batch.done, batch.wrong, canceled, rest - canceled)


def at(seconds: int) -> datetime:
    """A time by the seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def written(lines: bytes, folder: Path) -> Path:
    """A new file with these lines, on the disk when this returns. Raises OSError."""
    with new_file(folder) as path:
        path.write_bytes(lines)
        sync_file(path)
    return path
