"""`/v1/images/…`: decode, admit, answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse

from mlx_server.app.encoders.pictures import PictureEncoder
from mlx_server.app.http.links import link_to
from mlx_server.app.http.media_response import MediaResponse
from mlx_server.app.http.multipart import Form
from mlx_server.app.http.services import services
from mlx_server.app.routes.generation import read_request
from mlx_server.app.routes.media import admit_media, answer_form
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.schemas.openai.media import images as api
from mlx_server.schemas.openai.media.images import ImageEditForm, PictureOptions

SEED_BITS = 32
"""Of a seed that no client names: short enough to be written down."""


async def generations(request: Request) -> MediaResponse:
    """New pictures of what a prompt says."""
    given, ignored = await read_request(request, api.decoder, api.HARMLESS)
    return await admit_drawing(request, given, given.to_work(any_seed()), ignored)


async def edits(request: Request) -> MediaResponse:
    """A picture that is changed as a prompt says."""

    async def answered(form: Form, given: ImageEditForm, ignored: list[str]) -> MediaResponse:
        image, mask = files_of(form, services(request).settings.media.max_bytes)
        return await admit_drawing(request, given, given.to_work(any_seed(), image, mask), ignored, form.close)

    return await answer_form(request, api.edit_decoder, answered)


async def admit_drawing(
    request: Request,
    given: PictureOptions,
    work: PictureRequest,
    ignored: Sequence[str],
    release: Callable[[], None] | None = None,
) -> MediaResponse:
    """Queue a request for pictures and answer it; `release` is called at the end."""
    links = services(request).picture_links

    def link(data: bytes, media_type: str) -> str:
        return link_to(request, "drawn_picture", name=links.keep(data, media_type))

    encoder = PictureEncoder(work, given.response_format, link)
    unused = (*ignored, *given.ignored)
    return await admit_media(request, given, work, encoder, unused, stream=bool(given.stream), release=release)


async def drawn(request: Request) -> FileResponse:
    """A picture that was drawn, by the name in its address. Raises HTTPException."""
    found = services(request).picture_links.find(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "There is no such picture, or no more: addresses of pictures end after an hour.")
    return FileResponse(found.path, media_type=found.media_type, headers={"Cache-Control": "private, max-age=3600"})


def any_seed() -> int:
    """One by lot."""
    return secrets.randbits(SEED_BITS)


def files_of(form: Form, most_bytes: int) -> tuple[str, str | None]:
    """Where the picture of a form lies, and its mask. Raises InvalidRequest, also for one of more than `most_bytes`."""
    if len(form.files.get("image", ())) > 1:
        raise InvalidRequest("`image`: models here change one picture at a time.", "image")
    image = form.file("image")
    mask = form.file("mask") if "mask" in form.files else None
    for name, upload in (("image", image), ("mask", mask)):
        if upload is not None and not upload.size:
            raise InvalidRequest(f"`{name}` is empty.", name)
        if upload is not None and upload.size > most_bytes:
            raise InvalidRequest(f"`{name}` is larger than {most_bytes} bytes (--max-media-mb).", name)
    return image.path, mask.path if mask is not None else None
