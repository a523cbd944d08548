"""`/v1/files`: a form's file goes to disk as it comes, and is kept once all of it is there."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from mlx_server.app.files.file_store import StoredFile
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.multipart import read_form
from mlx_server.app.http.services import services
from mlx_server.app.routes.query import query_of
from mlx_server.app.routes.stored_items import as_json, owner_of, page_of
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.stored import files as schemas
from mlx_server.schemas.parsing.unknown_fields import refuse_unknown

MOST_LISTED = 10_000


async def files(request: Request) -> Response:
    """Keep a file, or list those that are kept."""
    return await (create(request) if request.method == "POST" else list_files(request))


async def create(request: Request) -> Response:
    """Keep a file. Raises InvalidRequest, HTTPException or ClientDisconnect, and then keeps nothing."""
    found = services(request)
    form = await read_form(request, found.files.incoming, found.settings.max_upload_bytes)
    try:
        given, unknown = schemas.file_form.decode(form.fields, form.files)
        if found.settings.strict_params:
            refuse_unknown(unknown)
        upload = form.file("file")
        name = named(upload.name)
        file = found.files.new(owner_of(request), given.purpose, name, upload.size, given.lifetime_s())
        await found.files.keep(file, Path(upload.path))
    finally:
        form.close()
    return as_json(to_object(file), ignored_header(unknown))


async def list_files(request: Request) -> Response:
    """A page of the files, the newest first unless it is asked for otherwise."""
    query = query_of(request, ("purpose", "limit", "order", "after"))
    if (purpose := query.get("purpose")) is not None and purpose not in schemas.PURPOSES:
        allowed = ", ".join(schemas.PURPOSES)
        raise InvalidRequest(f"`purpose`: allowed are {allowed}, got {purpose[:64]!r}.", "purpose")
    page = page_of(query, usual=MOST_LISTED, most=MOST_LISTED)
    found = await services(request).files.page(
        owner_of(request), purpose=purpose, after=page.after, limit=page.limit + 1, ascending=page.ascending
    )
    if found is None:
        raise page.unknown("file")
    return as_json(schemas.FileList(**page.fields([to_object(file) for file in found])))


async def one(request: Request) -> Response:
    """A file by its id: what is known of it, or gone."""
    if request.method != "DELETE":
        return as_json(to_object(await file_of(request)))
    if not await services(request).files.delete(id_of(request), owner_of(request)):
        raise unknown_file(id_of(request))
    return as_json(schemas.FileDeleted(id_of(request)))


async def content(request: Request) -> Response:
    """What a file holds."""
    file = await file_of(request)
    path = services(request).files.path(file.id)
    return FileResponse(path, media_type="application/octet-stream", filename=file.name)


async def file_of(request: Request) -> StoredFile:
    """The file of the path. Raises HTTPException 404."""
    found = await services(request).files.get(id_of(request), owner_of(request))
    if found is None:
        raise unknown_file(id_of(request))
    return found


def id_of(request: Request) -> str:
    """The id of the path."""
    return str(request.path_params["id"])


def named(given: str) -> str:
    """A file's name without folders. Raises InvalidRequest."""
    name = given.replace("\\", "/").rpartition("/")[2]
    if not 0 < len(name) <= schemas.MOST_NAME or not name.isprintable():
        raise InvalidRequest(f"`file`: a filename of 1 to {schemas.MOST_NAME} characters is needed.", "file")
    return name


def to_object(file: StoredFile) -> schemas.FileObject:
    """A file as clients see it."""
    return schemas.FileObject(
        id=file.id,
        bytes=file.size,
        created_at=file.created,
        expires_at=file.expires,
        filename=file.name,
        purpose=file.purpose,
    )


def unknown_file(id_: str) -> HTTPException:
    """There is no such file here."""
    return HTTPException(404, f"There is no file {id_[:200]!r}.")
