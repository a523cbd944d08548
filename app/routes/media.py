"""What endpoints of sounds and pictures share: forms whose files are gone at the end, and the way into the queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from starlette.requests import Request

from mlx_server.app.http.admission import enqueue
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.media_response import MediaEncoder, MediaResponse
from mlx_server.app.http.multipart import Form, read_form
from mlx_server.app.http.services import services
from mlx_server.app.routes.generation import Named, choose
from mlx_server.app.views.capabilities import check_served
from mlx_server.schemas.internal.work import Work
from mlx_server.schemas.parsing.forms import FormDecoder
from mlx_server.schemas.parsing.unknown_fields import refuse_unknown

Fields = TypeVar("Fields", bound=msgspec.Struct)
Answered = Callable[[Form, Fields, list[str]], Awaitable[MediaResponse]]
"""Answers a form, with its fields and the names of those that nobody knows; the answer closes it."""


async def answer_form(request: Request, decoder: FormDecoder[Fields], answered: Answered[Fields]) -> MediaResponse:
    """Read a form and answer it; if that fails, it is closed here. Raises InvalidRequest, HTTPException or
    ClientDisconnect, and what `answered` raises."""
    found = services(request)
    form = await read_form(request, found.uploads, found.settings.max_upload_bytes)
    try:
        given, unknown = decoder.decode(form.fields, form.files)
        if found.settings.strict_params:
            refuse_unknown(unknown)
        return await answered(form, given, unknown)
    except BaseException:
        form.close()
        raise


async def admit_media(
    request: Request,
    given: Named,
    work: Work,
    encoder: MediaEncoder,
    ignored: Sequence[str],
    *,
    stream: bool,
    as_events: bool = True,
    release: Callable[[], None] | None = None,
) -> MediaResponse:
    """Queue what a request asks for and answer it; `release` is called at the end. Raises InvalidRequest, QueueFull,
    QueueClosed or FleetError."""
    deployment = await choose(request, given)
    check_served(deployment.type, work)
    queue = deployment.current.queue
    return MediaResponse(
        queue,
        enqueue(request, queue, work, whole=not stream),
        encoder,
        stream=stream,
        as_events=as_events,
        keepalive_s=services(request).settings.keepalive_s,
        headers=ignored_header(ignored),
        release=release,
    )
