"""The hub's listing of models, by its own client's connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_server.workers.hub.access import API_TIMEOUT_S, HubAccess


def listing(access: HubAccess, query: Mapping[str, Any], limit: int) -> list[Any]:
    """The first `limit` models (`ModelInfo`) that a query finds. Raises what the hub's client raises.

    The client's own `list_models` tries for half a minute to reach a hub that is not there, while somebody waits.
    """
    from huggingface_hub import ModelInfo, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    headers = build_hf_headers(token=access.token)
    url, params = f"{access.url}/api/models", dict(query)
    found: list[Any] = []
    while url and len(found) < limit:
        answer = get_session().get(url, params=params or None, headers=headers, timeout=API_TIMEOUT_S)
        hf_raise_for_status(answer)
        found += [ModelInfo(**item) for item in answer.json()]
        url, params = answer.links.get("next", {}).get("url", ""), {}
    return found[:limit]
