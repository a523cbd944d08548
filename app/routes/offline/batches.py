"""`/v1/batches`: requests of a file that are answered as there is room for them."""

from __future__ import annotations

import uuid

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.batches.rows import StoredBatch
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.services import services
from mlx_server.app.routes.conversations import metadata_of
from mlx_server.app.routes.generation import read_request
from mlx_server.app.routes.offline.files import id_of
from mlx_server.app.routes.query import query_of
from mlx_server.app.routes.stored_items import as_json, owner_of, page_of
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.stored import batches as schemas

CONFLICT = 409


async def batches(request: Request) -> Response:
    """Begin a batch, or list those that there are."""
    return await (create(request) if request.method == "POST" else list_batches(request))


async def create(request: Request) -> Response:
    """Begin a batch: its file is looked through later. Raises InvalidRequest."""
    given, ignored = await read_request(request, schemas.create_decoder, {})
    found, owner = services(request), owner_of(request)
    file = await found.files.get(given.input_file_id, owner)
    if file is None:
        raise InvalidRequest(f"`input_file_id`: there is no file {given.input_file_id[:200]!r}.", "input_file_id")
    if file.purpose != "batch":
        message = f"`input_file_id`: a file of purpose 'batch' is needed, and this is for {file.purpose!r}."
        raise InvalidRequest(message, "input_file_id")
    now = int(found.files.clock())
    lifetime = given.output_expires_after
    batch = StoredBatch(
        number=0,
        id=f"batch_{uuid.uuid4().hex}",
        owner=owner,
        anthropic=False,
        endpoint=given.endpoint,
        input_file=file.id,
        window=given.completion_window,
        metadata=metadata_of(given.metadata),
        output_lifetime=None if lifetime is None else lifetime.seconds,
        status="validating",
        created=now,
        expires=now + schemas.window_s(given.completion_window),
    )
    made = await found.batches.create(batch, found.files.path(file.id))
    await found.batch_runner.look_at(made)
    return as_json(to_batch(request, made), ignored_header(ignored))


async def list_batches(request: Request) -> Response:
    """A page of them, the newest first."""
    page = page_of(query_of(request, ("limit", "after")))
    found = await services(request).batches.page(owner_of(request), after=page.after, limit=page.limit + 1)
    if found is None:
        raise page.unknown("batch")
    return as_json(schemas.BatchList(**page.fields([to_batch(request, batch) for batch in found])))


async def one(request: Request) -> Response:
    """A batch as it is now."""
    return as_json(to_batch(request, await batch_of(request)))


async def cancel(request: Request) -> Response:
    """End a batch; what is done stays. Raises HTTPException 404, or 409 for one that has ended."""
    batch = await batch_of(request)
    if await services(request).batches.cancel(batch.id, batch.owner):
        await services(request).batch_runner.look_at(batch)
    now = await batch_of(request)
    if now.status not in ("cancelling", "cancelled"):
        raise HTTPException(CONFLICT, f"The batch is {now.status} and can't be cancelled any more.")
    return as_json(to_batch(request, now))


async def batch_of(request: Request) -> StoredBatch:
    """The batch of the path. Raises HTTPException 404."""
    found = await services(request).batches.get(id_of(request), owner_of(request))
    if found is None:
        raise HTTPException(404, f"There is no batch {id_of(request)[:200]!r}.")
    return found


def to_batch(request: Request, batch: StoredBatch) -> schemas.Batch:
    """A batch as clients see it."""
    errors = schemas.errors_decoder.decode(batch.errors)
    return schemas.Batch(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.model,
        errors=schemas.BatchErrors(errors) if errors else None,
        input_file_id=batch.input_file,
        completion_window=batch.window,
        status=batch.status,
        output_file_id=batch.output_file,
        error_file_id=batch.error_file,
        created_at=batch.created,
        in_progress_at=batch.in_progress,
        expires_at=batch.expires,
        finalizing_at=batch.finalizing,
        completed_at=batch.completed,
        failed_at=batch.failed,
        expired_at=batch.expired,
        cancelling_at=batch.cancelling,
        cancelled_at=batch.cancelled,
        request_counts=schemas.RequestCounts(batch.total, batch.done, batch.wrong),
        usage=schemas.BatchUsage(
            batch.input_tokens,
            schemas.InputTokensDetails(batch.cached_tokens),
            batch.output_tokens,
            schemas.OutputTokensDetails(batch.reasoning_tokens),
            batch.input_tokens + batch.output_tokens,
        ),
        metadata=schemas.metadata_decoder.decode(batch.metadata) or None,
        waiting_for=services(request).batch_runner.waiting_for(batch),
    )
