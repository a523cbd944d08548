"""`/v1/images/…`: decode, admit, answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse

from mlx_server.app.encoders.pictures import PictureEncoder
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.media_response import MediaResponse
from mlx_server.app.http.multipart import Form, read_form
from mlx_server.app.http.services import services
from mlx_server.app.routes.generation import choose, read_request
from mlx_server.app.views.capabilities import check_served
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.media import images as api
from mlx_server.schemas.openai.media.images import ImageEditForm, PictureOptions
from mlx_server.schemas.parsing.forms import parse_form
from mlx_server.schemas.parsing.unknown_fields import refuse_unknown

SEED_BITS = 32
"""Of a seed that no client names: short enough to be written down."""


async def generations(request: Request) -> MediaResponse:
    """New pictures of what a prompt says."""
    given, ignored = await read_request(request, api.decoder, api.HARMLESS)
    return await admit_drawing(request, given, ignored)


async def edits(request: Request) -> MediaResponse:
    """A picture that is changed as a prompt says. Raises InvalidRequest, QueueFull, QueueClosed, FleetError,
    HTTPException or ClientDisconnect."""
    found = services(request)
    form = await read_form(request, found.uploads, found.settings.max_upload_bytes)
    try:
        given, ignored = read_fields(form, strict=found.settings.strict_params)
        image, mask = files_of(form, found.settings.media.max_bytes)
        return await admit_drawing(request, given, ignored, image, mask, form.close)
    except BaseException:
        form.close()
        raise


async def admit_drawing(
    request: Request,
    given: PictureOptions,
    ignored: list[str],
    image: str | None = None,
    mask: str | None = None,
    release: Callable[[], None] | None = None,
) -> MediaResponse:
    """Queue a request for pictures and answer it; `release` is called at the end."""
    work = given.to_work(secrets.randbits(SEED_BITS), image, mask)
    deployment = await choose(request, given)
    check_served(deployment.type, work)
    queue = deployment.current.queue
    links = services(request).picture_links

    def link(data: bytes, media_type: str) -> str:
        return str(request.url_for("drawn_picture", name=links.keep(data, media_type)))

    return MediaResponse(
        queue,
        queue.submit(work, whole=not given.stream),
        PictureEncoder(work, given.response_format, link),
        stream=bool(given.stream),
        keepalive_s=services(request).settings.keepalive_s,
        headers=ignored_header((*ignored, *given.ignored)),
        release=release,
    )


async def drawn(request: Request) -> FileResponse:
    """A picture that was drawn, by the name in its address. Raises HTTPException."""
    found = services(request).picture_links.find(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "There is no such picture, or no more: addresses of pictures end after an hour.")
    return FileResponse(found.path, media_type=found.media_type, headers={"Cache-Control": "private, max-age=3600"})


def files_of(form: Form, most_bytes: int) -> tuple[str, str | None]:
    """Where the picture of a form lies, and its mask. Raises InvalidRequest, also for one of more than `most_bytes`."""
    for name in form.files:
        if name.removesuffix("[]") in api.UNSERVED_FILES:
            raise InvalidRequest(f"`{name}` is not supported. Leave it out.", name, "unsupported_parameter")
    written = "image[]" if "image[]" in form.files else "image"
    if len(form.files.get(written, ())) > 1:
        raise InvalidRequest("`image`: models here change one picture at a time.", "image")
    image = form.file(written)
    mask = form.file("mask") if "mask" in form.files or "mask" in form.fields else None
    for name, upload in (("image", image), ("mask", mask)):
        if upload is not None and not upload.size:
            raise InvalidRequest(f"`{name}` is empty.", name)
        if upload is not None and upload.size > most_bytes:
            raise InvalidRequest(f"`{name}` is larger than {most_bytes} bytes (--max-media-mb).", name)
    return image.path, mask.path if mask is not None else None


def read_fields(form: Form, *, strict: bool) -> tuple[ImageEditForm, list[str]]:
    """The fields of a form beside its files, and the names of those that change nothing. Raises InvalidRequest."""
    fields: dict[str, str] = {}
    for name, values in form.fields.items():
        if len(values) > 1:
            raise InvalidRequest(f"`{name}` is given more than once.", name)
        allowed = api.HARMLESS.get(name)
        if allowed is None:
            fields[name] = values[0]
        elif values[0] not in allowed:
            either = f", or set it to {' or '.join(allowed)}" if allowed else ""
            raise InvalidRequest(
                f"`{name}` is not supported by this server. Leave it out{either}.", name, "unsupported_parameter"
            )
    given, unknown = parse_form(fields, ImageEditForm)
    if strict:
        refuse_unknown(unknown)
    return given, unknown
