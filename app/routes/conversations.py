"""`/v1/conversations`: items stored under one id, which their owner alone can read."""

from __future__ import annotations

import time

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.services import services
from mlx_server.app.responses.conversation_store import ConversationStore, StoredConversation
from mlx_server.app.responses.response_records import conversation_items, to_stored_items, unknown_conversation
from mlx_server.app.routes.generation import read_request
from mlx_server.app.routes.query import INCLUDE, query_of
from mlx_server.app.routes.stored_items import Page, as_json, owner_of, page_of, referred_to
from mlx_server.schemas.openai import conversations as schemas
from mlx_server.schemas.openai.responses import check_metadata
from mlx_server.schemas.openai.responses_answer import item_decoder
from mlx_server.schemas.openai.responses_input import InputItem, to_items, unknown_in
from mlx_server.schemas.openai.responses_items import Item, new_id
from mlx_server.schemas.openai.responses_messages import refuse_strays

ITEMS = "items"
PAGE = ("limit", "order", "after", *INCLUDE)


async def create(request: Request) -> Response:
    """Begin a conversation."""
    given, ignored = await read_request(request, schemas.create_decoder, {})
    metadata = metadata_of(given.metadata)
    placed, unknown = await to_add(request, given.items or [])
    made = StoredConversation(new_id("conv"), int(time.time()), metadata)
    await conversations_of(request).create(made, owner_of(request), to_stored_items(item for _, item in placed))
    return as_json(to_conversation(made), ignored_header((*ignored, *unknown)))


async def one(request: Request) -> Response:
    """A conversation by its id: as it is, with other metadata, or gone."""
    match request.method:
        case "POST":
            return await update(request)
        case "DELETE":
            return await delete(request)
        case _:
            return as_json(to_conversation(await conversation_of(request)))


async def update(request: Request) -> Response:
    """Give it other metadata."""
    given, ignored = await read_request(request, schemas.update_decoder, {})
    metadata = metadata_of(given.metadata)
    if not await conversations_of(request).update(id_of(request), owner_of(request), metadata):
        raise unknown_conversation(id_of(request))
    return as_json(to_conversation(await conversation_of(request)), ignored_header(ignored))


async def delete(request: Request) -> Response:
    """Forget it, with its items."""
    if not await conversations_of(request).delete(id_of(request), owner_of(request)):
        raise unknown_conversation(id_of(request))
    return as_json(schemas.ConversationDeleted(id_of(request)))


async def items(request: Request) -> Response:
    """A page of its items, or more of them."""
    return await (add(request) if request.method == "POST" else list_items(request))


async def list_items(request: Request) -> Response:
    """A page of its items, the newest first unless it is asked for otherwise."""
    page = page_of(query_of(request, PAGE))
    await conversation_of(request)
    found = await conversations_of(request).page(
        id_of(request), owner_of(request), after=page.after, limit=page.limit + 1, ascending=page.ascending
    )
    if found is None:
        raise page.unknown()
    return as_json(page.of([item_decoder.decode(item) for item in found]))


async def add(request: Request) -> Response:
    """Put items at its end; they come back in their full form."""
    given, ignored = await read_request(request, schemas.add_decoder, {})
    settings = services(request).settings
    owner, store = owner_of(request), conversations_of(request)
    before = await conversation_items(services(request).response_store, id_of(request), owner, settings.max_body_bytes)
    placed, unknown = await to_add(request, given.items)
    refuse_strays(before, placed)
    added = [item for _, item in placed]
    if not await store.add(id_of(request), owner, to_stored_items(added)):
        raise unknown_conversation(id_of(request))
    return as_json(Page(len(added), True, None).of(added), ignored_header((*ignored, *unknown)))


async def one_item(request: Request) -> Response:
    """An item: as it is, or taken out."""
    query_of(request, INCLUDE)
    item, owner, store = request.path_params["item"], owner_of(request), conversations_of(request)
    found = await conversation_of(request)
    if request.method == "DELETE":
        if not await store.remove(found.id, owner, item):
            raise unknown_item(item)
        return as_json(to_conversation(found))
    content = await store.item(found.id, owner, item)
    if content is None:
        raise unknown_item(item)
    return as_json(item_decoder.decode(content))


def id_of(request: Request) -> str:
    """The conversation of the path."""
    return str(request.path_params["id"])


def conversations_of(request: Request) -> ConversationStore:
    """Where conversations are kept. Raises HTTPException 404 if they are not."""
    store = services(request).response_store
    if store is None:
        raise HTTPException(404, "This server keeps no conversations; send the whole conversation each time.")
    return store.conversations


async def conversation_of(request: Request) -> StoredConversation:
    """The conversation of the path. Raises HTTPException 404."""
    found = await conversations_of(request).get(id_of(request), owner_of(request))
    if found is None:
        raise unknown_conversation(id_of(request))
    return found


async def to_add(request: Request, given: list[InputItem]) -> tuple[list[tuple[str, Item]], list[str]]:
    """Items in their full form with their paths, and the paths of those that nobody here knows, which are left out.

    Raises InvalidRequest, or HTTPException 404.
    """
    items = to_items(given, await referred_to(request, given, ITEMS), ITEMS)
    placed = [(f"{ITEMS}[{i}]", item) for i, item in enumerate(items) if item is not None]
    return placed, unknown_in(given, items, ITEMS)


def metadata_of(given: dict[str, str] | None) -> bytes:
    """Metadata as it is kept. Raises InvalidRequest."""
    check_metadata(given or {})
    return msgspec.json.encode(given or {})


def to_conversation(stored: StoredConversation) -> schemas.Conversation:
    """A conversation as clients see it."""
    metadata = schemas.metadata_decoder.decode(stored.metadata)
    return schemas.Conversation(id=stored.id, created_at=stored.created, metadata=metadata)


def unknown_item(id_: str) -> HTTPException:
    """There is no such item here."""
    return HTTPException(404, f"There is no item {id_[:200]!r} in this conversation.")
