"""What requests show: every route has their files brought here, once it is known that the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace
from starlette.requests import Request

from mlx_server.app.abilities import check_kinds, check_sees, check_served, kinds_of
from mlx_server.app.deployment import Deployment
from mlx_server.app.leaving import unless_left
from mlx_server.app.media.reader import MediaReader
from mlx_server.app.media.replacing import Files, brought
from mlx_server.schemas.embedding import Work
from mlx_server.schemas.generation import Media
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
    if not media:
        return work
    deployment.queue.check_room()
    return with_media(work, brought(await files_of(request, deployment, media)))


async def with_files_in_question(request: Request, deployment: Deployment, question: Asked) -> Asked:
    """A question about a prompt, as it may be asked. Raises InvalidRequest, or ClientDisconnect."""
    prompt = without_unseen(question.prompt, kinds_of(deployment.type, deployment.facts))
    media = media_of(prompt)
    check_sees(deployment.type, media)
    if media:
        prompt = with_media(prompt, brought(await files_of(request, deployment, media)))
    return replace(question, prompt=prompt)


async def files_of(request: Request, deployment: Deployment, media: Sequence[Media]) -> Files:
    """The files by their addresses. Raises InvalidRequest, or ClientDisconnect."""
    check_kinds(deployment.facts, media)
    reader: MediaReader = request.app.state.media
    return await unless_left(request, reader.read(media))
