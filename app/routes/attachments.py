"""Attachments of requests: every route has their files fetched here, once the model is known to take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace
from starlette.requests import Request

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.http.disconnect import cancel_on_disconnect
from mlx_server.app.http.services import services
from mlx_server.app.media.attach import Files, with_bytes
from mlx_server.app.middleware.api_key import OWNER
from mlx_server.app.views.capabilities import check_kinds, check_sees, check_served, kinds_of
from mlx_server.schemas.attachments import media_of, with_media, without_unseen
from mlx_server.schemas.internal.documents import ILLUSTRATED_ROLES, Illustrated, WorkOrPrompt, documents_of, with_texts
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, Media
from mlx_server.schemas.internal.messages import PrefixOf, TokensOf
from mlx_server.schemas.internal.work import Work
from mlx_server.schemas.left_out import excuse, over_limit, without

PromptQuery = TypeVar("PromptQuery", TokensOf, PrefixOf)


async def with_attachments(request: Request, deployment: Deployment, work: Work) -> Work:
    """Work that this model does, as it may be queued. Raises InvalidRequest, or ClientDisconnect."""
    work = without_unseen(work, kinds_of(deployment.type, deployment.facts))
    check_served(deployment.type, work)
    return await attach_or_excuse(request, deployment, work) if has_files(work) else work


async def query_with_attachments(request: Request, deployment: Deployment, query: PromptQuery) -> PromptQuery:
    """A query about a prompt with its files fetched. Raises InvalidRequest, or ClientDisconnect."""
    prompt = without_unseen(query.prompt, kinds_of(deployment.type, deployment.facts))
    check_sees(deployment.type, media_of(prompt))
    if has_files(prompt):
        prompt = await attach_or_excuse(request, deployment, prompt)
    return replace(query, prompt=prompt)


def has_files(given: WorkOrPrompt) -> bool:
    """There are files to fetch."""
    return bool(media_of(given) or documents_of(given))


async def attach_or_excuse(request: Request, deployment: Deployment, given: WorkOrPrompt) -> WorkOrPrompt:
    """The same with its files fetched; in the place of what tools gave and can't be had or is too much stand words.

    Raises InvalidRequest, or ClientDisconnect.
    """
    settings = services(request).settings
    given = without(given, over_limit(given, settings.media.max_files))
    while True:
        try:
            return await attach(request, deployment, given)
        except InvalidRequest as error:
            if not (words := excuse(given, error)):
                raise
            given = without(given, words)


async def attach(request: Request, deployment: Deployment, given: WorkOrPrompt) -> WorkOrPrompt:
    """The same with its files fetched. Raises InvalidRequest, or ClientDisconnect."""
    if not has_files(given):
        return given
    media, documents = media_of(given), documents_of(given)
    files = await fetch_files(request, deployment, media, documents)
    seen = documents_of(given, ILLUSTRATED_ROLES) if "image" in kinds_of(deployment.type, deployment.facts) else []
    texts = await read_documents(request, documents, files, seen)
    shown = with_texts(with_media(given, with_bytes(files)), texts)
    return await within_limits(request, deployment, shown) if any(one.pictures for one in texts.values()) else shown


async def within_limits(request: Request, deployment: Deployment, given: WorkOrPrompt) -> WorkOrPrompt:
    """The same, in which pictures of pages count as all others do. Raises InvalidRequest, or ClientDisconnect."""
    given = without(given, over_limit(given, services(request).settings.media.max_files))
    await fetch_files(request, deployment, media_of(given), [])
    return given


async def fetch_files(
    request: Request, deployment: Deployment, media: Sequence[Media], documents: Sequence[Document]
) -> Files:
    """The files by their addresses. Raises InvalidRequest, or ClientDisconnect."""
    check_kinds(deployment.facts, media)
    reader = services(request).media
    return await cancel_on_disconnect(request, reader.read([*media, *documents], request.scope[OWNER]))


async def read_documents(
    request: Request, documents: Sequence[Document], files: Files, seen: Sequence[Document]
) -> Mapping[Document, Illustrated]:
    """What the documents say, and those that are `seen` show. Raises InvalidRequest, or ClientDisconnect."""
    if not documents:
        return {}
    reader = services(request).documents
    return await cancel_on_disconnect(request, reader.texts(documents, files, request.scope[OWNER], seen))
