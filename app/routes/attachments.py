"""What requests show: every route has their files brought here, once it is known that the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace
from starlette.requests import Request

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.http.disconnect import unless_left
from mlx_server.app.http.services import services
from mlx_server.app.media.attach import Files, brought
from mlx_server.app.middleware.api_key import OWNER
from mlx_server.app.views.capabilities import check_kinds, check_sees, check_served, kinds_of
from mlx_server.schemas.attachments import media_of, with_media, without_unseen
from mlx_server.schemas.internal.documents import Texts, documents_of, with_texts
from mlx_server.schemas.internal.embedding import Work
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, Media, Prompt
from mlx_server.schemas.internal.messages import KnownOf, TokensOf
from mlx_server.schemas.left_out import crowd, excuse, without

Asked = TypeVar("Asked", TokensOf, KnownOf)
Given = TypeVar("Given", bound=Work | Prompt)


async def with_files(request: Request, deployment: Deployment, work: Work) -> Work:
    """Work that this model does, as it may be queued; with files to fetch, only while there is room in the queue.

    Raises InvalidRequest, QueueFull or QueueClosed, or ClientDisconnect.
    """
    work = without_unseen(work, kinds_of(deployment.type, deployment.facts))
    check_served(deployment.type, work)
    if media_of(work) or documents_of(work):
        deployment.queue.check_capacity()
    return await told(request, deployment, work)


async def with_files_in_question(request: Request, deployment: Deployment, question: Asked) -> Asked:
    """A question about a prompt, as it may be asked. Raises InvalidRequest, or ClientDisconnect."""
    prompt = without_unseen(question.prompt, kinds_of(deployment.type, deployment.facts))
    check_sees(deployment.type, media_of(prompt))
    return replace(question, prompt=await told(request, deployment, prompt))


async def told(request: Request, deployment: Deployment, given: Given) -> Given:
    """The same with its files brought; in the place of what tools gave and can't be had or is too much stand words.

    Raises InvalidRequest, or ClientDisconnect.
    """
    settings = services(request).settings
    given = without(given, crowd(given, settings.media.max_files))
    while True:
        try:
            return await brought_to(request, deployment, given)
        except InvalidRequest as error:
            if not (words := excuse(given, error)):
                raise
            given = without(given, words)


async def brought_to(request: Request, deployment: Deployment, given: Given) -> Given:
    """The same with its files brought. Raises InvalidRequest, or ClientDisconnect."""
    media, documents = media_of(given), documents_of(given)
    if not (media or documents):
        return given
    files = await files_of(request, deployment, media, documents)
    texts = await texts_of(request, documents, files)
    return with_texts(with_media(given, brought(files)), texts)


async def files_of(
    request: Request, deployment: Deployment, media: Sequence[Media], documents: Sequence[Document]
) -> Files:
    """The files by their addresses. Raises InvalidRequest, or ClientDisconnect."""
    check_kinds(deployment.facts, media)
    reader = services(request).media
    return await unless_left(request, reader.read([*media, *documents]))


async def texts_of(request: Request, documents: Sequence[Document], files: Files) -> Texts:
    """What the documents say. Raises InvalidRequest, or ClientDisconnect."""
    reader = services(request).documents
    return await unless_left(request, reader.texts(documents, files, request.scope[OWNER])) if documents else {}
