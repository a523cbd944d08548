"""Finding models on the hub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from mlx_server.app.hub.bounded_calls import BoundedCalls
from mlx_server.app.hub.categories import CATEGORIES, Category
from mlx_server.app.hub.facts import model_of
from mlx_server.app.hub.listing import listing
from mlx_server.app.hub.model import HubModel
from mlx_server.app.hub.ttl_cache import TTLCache
from mlx_server.workers.folders.model_path import HUB_ID
from mlx_server.workers.hub.access import HubAccess, check_hub_id
from mlx_server.workers.hub.errors import hub_errors

Sort = Literal["downloads", "likes", "created", "updated"]
SORTS: tuple[str, ...] = get_args(Sort)
KEYS = {"created": "createdAt", "updated": "lastModified"}
"""The hub's words, where they are others."""

LISTED = [
    *("author", "config", "createdAt", "downloads", "gated", "lastModified", "library_name", "likes"),
    *("pipeline_tag", "safetensors", "tags"),
]
"""What listings tell of each model."""

MLX = "mlx"
SEARCH_KEPT_S = 60.0
CATEGORIES_KEPT_S = 600.0


class Hub:
    """Models in MLX's format, by the hub's own search. Every method raises HubError, in bounded time.

    Answers are kept for a minute, categories for ten; errors are not.
    """

    def __init__(
        self,
        access: HubAccess | None = None,
        *,
        calls: BoundedCalls | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access or HubAccess.from_environment()
        self._calls = calls or BoundedCalls()
        self._listings: TTLCache[list[HubModel]] = TTLCache(seconds=SEARCH_KEPT_S, clock=clock)
        self._details: TTLCache[HubModel] = TTLCache(seconds=SEARCH_KEPT_S, clock=clock)
        self._categories: TTLCache[dict[str, list[str]]] = TTLCache(seconds=CATEGORIES_KEPT_S, clock=clock)

    async def search(
        self, query: str | None = None, limit: int = 20, sort: Sort = "downloads", tags: Sequence[str] = ()
    ) -> list[HubModel]:
        """Models whose ids contain `query` and that carry all of `tags`, the first `limit` by `sort`.

        For a repository's whole id also those that were made from it.
        """
        query = (query or "").strip()
        named = {"search": query} if query else {}
        found = await self._list(sort=sort, limit=limit, filter=(MLX, *tags), **named)
        if HUB_ID.fullmatch(query) and len(found) < limit:
            made = await self._list(sort=sort, limit=limit, filter=(MLX, *tags, f"base_model:{query}"))
            found = list({model.id: model for model in (*found, *made)}.values())[:limit]
        return found

    async def popular(self, limit: int = 20) -> list[HubModel]:
        """Those that are downloaded most."""
        return await self.search(limit=limit)

    async def categories(self) -> dict[str, list[str]]:
        """Ids by category, the most downloaded first."""
        return await self._categories.get((), self._find_categories)

    async def details(self, repo_id: str) -> HubModel:
        """One model, in MLX's format or not, with the size of what would be downloaded."""
        return await self._details.get(repo_id, lambda: self._find_details(repo_id))

    async def check_access(self, repo_id: str) -> None:
        """Whether this user may have a model's files: the hub tells of gated ones to everybody. Raises HubDenied."""
        check_hub_id(repo_id)

        def ask() -> None:
            with hub_errors(repo_id):
                self._access.api().auth_check(repo_id)

        await self._calls.run(ask)

    async def _find_categories(self) -> dict[str, list[str]]:
        found = await asyncio.gather(*map(self.of_category, CATEGORIES))
        return {
            category.name: [model.id for model in models] for category, models in zip(CATEGORIES, found, strict=True)
        }

    async def of_category(self, category: Category) -> list[HubModel]:
        """The models of a category, the most downloaded first."""
        listings = [await self._list(limit=category.searched, **query) for query in category.queries]
        models = {model.id: model for listing in listings for model in listing if category.holds(model)}
        return sorted(models.values(), key=lambda model: -model.downloads)[: category.listed]

    async def _find_details(self, repo_id: str) -> HubModel:
        check_hub_id(repo_id)

        def ask() -> Any:
            with hub_errors(repo_id):
                return self._access.api().model_info(repo_id, files_metadata=True)

        info = await self._calls.run(ask)
        model = model_of(info)
        if model.mlx_compatible:
            return model
        versions = await self._list(limit=1, filter=(MLX, f"base_model:{repo_id}"))
        return model_of(info, versions[0].id if versions else None)

    async def _list(self, *, limit: int, sort: str = "downloads", **query: Any) -> list[HubModel]:
        def ask() -> list[HubModel]:
            with hub_errors():
                asked = {**query, "sort": KEYS.get(sort, sort), "limit": limit, "expand": LISTED}
                return [model_of(info) for info in listing(self._access, asked, limit)]

        return await self._listings.get((limit, sort, *sorted(query.items())), lambda: self._calls.run(ask))
