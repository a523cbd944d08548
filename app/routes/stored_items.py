"""What routes of kept things have in common: whose they are, pages of them, and items by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    """Which things are asked for: those that come after one of them, in one of the two orders. `name` is what the
    query calls that one."""

    limit: int
    ascending: bool
    after: str | None
    name: str = "after"

    def fields(self, found: Sequence[Any], *, back: bool = False) -> dict[str, Any]:
        """What all lists say: `data` is what was `found` first, the last first with `back`, without the one too many
        that there is if more follow; `first_id` and `last_id` are null without any."""
        data = list(found[: self.limit])
        if back:
            data.reverse()
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return {"data": data, "first_id": first_id, "last_id": last_id, "has_more": len(found) > self.limit}

    def of(self, items: Sequence[Item]) -> ItemList:
        """The page that begins with `items`."""
        fields = self.fields(items)
        return ItemList("list", fields["data"], fields["first_id"] or "", fields["last_id"] or "", fields["has_more"])

    def unknown(self, what: str = "item") -> InvalidRequest:
        """The refusal where there is none to come after."""
        return InvalidRequest(f"`{self.name}`: there is no {what} {self.after!r}.", self.name)


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
