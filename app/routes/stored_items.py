"""What routes of responses and conversations have in common: whose they are, pages, and items by their ids."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.http.services import services
from mlx_server.app.middleware.api_key import OWNER
from mlx_server.app.responses.response_records import find_items
from mlx_server.app.routes.query import number
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.responses_input import Input, references_in
from mlx_server.schemas.openai.responses_items import Item, ItemList

USUAL_PAGE, MAX_PAGE = 20, 100


@dataclass(frozen=True)
class Page:
    """Which items are asked for: those that come after one of them, in one of the two orders."""

    limit: int
    ascending: bool
    after: str | None

    def of(self, items: list[Item]) -> ItemList:
        """The page that begins with `items`, of which there is one too many if more follow."""
        page = items[: self.limit]
        first_id, last_id = (page[0].id, page[-1].id) if page else ("", "")
        return ItemList("list", page, first_id, last_id, len(items) > self.limit)

    def unknown(self) -> InvalidRequest:
        """The refusal where there is no such item."""
        return InvalidRequest(f"`after`: there is no item {self.after!r}.", "after")


def page_of(query: dict[str, str], usual: int = USUAL_PAGE, most: int = MAX_PAGE) -> Page:
    """The page that a query asks for: of `usual` items where it does not say. Raises InvalidRequest."""
    limit = number(query.get("limit", str(usual)), "limit", 1, most)
    if (order := query.get("order", "desc")) not in ("asc", "desc"):
        raise InvalidRequest(f"`order`: 'asc' or 'desc' is allowed, got {order!r}.", "order")
    return Page(limit, order == "asc", query.get("after"))


def owner_of(request: Request) -> str:
    """Whose things the request may see."""
    return str(request.scope[OWNER])


async def referred_to(request: Request, given: Input, path: str = "input") -> dict[str, Item]:
    """The kept items that a list of items at `path` refers to, by their ids.

    Raises HTTPException 404 for one that is not there.
    """
    wanted = references_in(given, path)
    if not wanted:
        return {}
    settings = services(request).settings
    store = services(request).response_store
    found = await find_items(store, owner_of(request), list(wanted), settings.max_body_bytes) if store else {}
    for id_, path in wanted.items():
        if id_ not in found:
            raise HTTPException(404, f"`{path}.id`: there is no item {id_[:200]!r}; its response may not be stored.")
    return found


def as_json(answer: msgspec.Struct, headers: dict[str, str] | None = None) -> Response:
    """An answer of this API."""
    return Response(msgspec.json.encode(answer), headers=headers, media_type="application/json")
