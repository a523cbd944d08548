"""`/v1/uploads`: a file that comes in parts."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.files.upload_store import StoredUpload
from mlx_server.app.http.body import too_large
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.multipart import read_form
from mlx_server.app.http.services import services
from mlx_server.app.routes.generation import read_request
from mlx_server.app.routes.offline.files import id_of, to_object
from mlx_server.app.routes.stored_items import as_json, owner_of
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.stored import files as schemas
from mlx_server.schemas.parsing.unknown_fields import refuse_unknown


async def create(request: Request) -> Response:
    """Announce a file."""
    given, ignored = await read_request(request, schemas.upload_decoder, {})
    found = services(request)
    if given.bytes > found.settings.max_upload_bytes:
        raise too_large(found.settings.max_upload_bytes)
    owner, lifetime = owner_of(request), given.lifetime_s()
    made = await found.file_uploads.create(owner, given.purpose, given.filename, given.bytes, lifetime)
    return as_json(to_upload(made), ignored_header(ignored))


async def add_part(request: Request) -> Response:
    """Take in a part. Raises InvalidRequest, HTTPException or ClientDisconnect, and then keeps nothing of it."""
    found = services(request)
    form = await read_form(request, found.files.incoming, found.settings.max_upload_bytes)
    try:
        _, unknown = schemas.part_form.decode(form.fields, form.files)
        if found.settings.strict_params:
            refuse_unknown(unknown)
        data = form.file("data")
        if not data.size:
            raise InvalidRequest("`data` is empty.", "data")
        part = await found.file_uploads.add_part(id_of(request), owner_of(request), Path(data.path), data.size)
    finally:
        form.close()
    if part is None:
        raise unknown_upload(request)
    answer = schemas.UploadPart(id=part[0], created_at=part[1], upload_id=id_of(request))
    return as_json(answer, ignored_header(unknown))


async def complete(request: Request) -> Response:
    """Make a file of the parts."""
    given, ignored = await read_request(request, schemas.complete_decoder, {})
    owner, store = owner_of(request), services(request).file_uploads
    done = await store.complete(id_of(request), owner, given.part_ids, given.md5)
    if done is None:
        raise unknown_upload(request)
    upload, file = done
    return as_json(to_upload(upload, to_object(file)), ignored_header(ignored))


async def cancel(request: Request) -> Response:
    """Take it back, with its parts."""
    upload = await services(request).file_uploads.cancel(id_of(request), owner_of(request))
    if upload is None:
        raise unknown_upload(request)
    return as_json(to_upload(upload))


def to_upload(upload: StoredUpload, file: schemas.FileObject | None = None) -> schemas.Upload:
    """An upload as clients see it."""
    return schemas.Upload(
        id=upload.id,
        bytes=upload.size,
        created_at=upload.created,
        expires_at=upload.expires,
        filename=upload.name,
        purpose=upload.purpose,
        status=upload.status,
        file=file,
    )


def unknown_upload(request: Request) -> HTTPException:
    """There is no such upload here."""
    return HTTPException(404, f"There is no upload {id_of(request)[:200]!r}.")
