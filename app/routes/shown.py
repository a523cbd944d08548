"""What requests show: every route has their files brought here, once it is known that the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace
from starlette.requests import Request

from mlx_server.app.abilities import check_kinds, check_sees, check_served, kinds_of
from mlx_server.app.deployment import Deployment
from mlx_server.app.leaving import unless_left
from mlx_server.app.media.documents import DocumentReader
from mlx_server.app.media.reader import MediaReader
from mlx_server.app.media.replacing import Files, brought
from mlx_server.app.middleware.api_key import OWNER
from mlx_server.schemas.documents import Texts, documents_of, with_texts
from mlx_server.schemas.embedding import Work
from mlx_server.schemas.generation import Document, GenerationRequest, Media, Prompt
from mlx_server.schemas.messages import KnownOf, TokensOf
from mlx_server.schemas.shown import media_of, with_media, without_unseen

Asked = TypeVar("Asked", TokensOf, KnownOf)


async def with_files(request: Request, deployment: Deployment, work: Work) -> Work:
    """Work that this model does, as it may be queued; with files to fetch, only while there is room in the queue.

    Raises InvalidRequest, QueueFull or QueueClosed, or ClientDisconnect.
    """
    work = without_unseen(work, kinds_of(deployment.type, deployment.facts))
    check_served(deployment.type, work)
    media = media_of(work)
    documents = [one for prompt in prompts_of(work) for one in documents_of(prompt)]
    if not (media or documents):
        return work
    deployment.queue.check_room()
    files = await files_of(request, deployment, media, documents)
    texts = await texts_of(request, documents, files)
    work = with_media(work, brought(files))
    if isinstance(work, GenerationRequest):
        work = replace(work, prompts=tuple(with_texts(prompt, texts) for prompt in work.prompts))
    return work


async def with_files_in_question(request: Request, deployment: Deployment, question: Asked) -> Asked:
    """A question about a prompt, as it may be asked. Raises InvalidRequest, or ClientDisconnect."""
    prompt = without_unseen(question.prompt, kinds_of(deployment.type, deployment.facts))
    media = media_of(prompt)
    check_sees(deployment.type, media)
    documents = documents_of(prompt)
    if media or documents:
        files = await files_of(request, deployment, media, documents)
        prompt = with_texts(with_media(prompt, brought(files)), await texts_of(request, documents, files))
    return replace(question, prompt=prompt)


async def files_of(
    request: Request, deployment: Deployment, media: Sequence[Media], documents: Sequence[Document]
) -> Files:
    """The files by their addresses. Raises InvalidRequest, or ClientDisconnect."""
    check_kinds(deployment.facts, media)
    reader: MediaReader = request.app.state.media
    return await unless_left(request, reader.read([*media, *documents]))


async def texts_of(request: Request, documents: Sequence[Document], files: Files) -> Texts:
    """What the documents say. Raises InvalidRequest, or ClientDisconnect."""
    reader: DocumentReader = request.app.state.documents
    return await unless_left(request, reader.texts(documents, files, request.scope[OWNER])) if documents else {}


def prompts_of(work: Work) -> Sequence[Prompt]:
    """Where documents may be."""
    return work.prompts if isinstance(work, GenerationRequest) else ()
