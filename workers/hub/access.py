"""How the hub is reached: its address, a token, and where its files are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mlx_server.workers.folders.model_path import HUB_ID
from mlx_server.workers.hub.errors import NotAHubId

MAX_PART = 96
"""Characters of an author's or a model's name, by the hub's own rule; neither `--` nor `..` may be in them."""

API_TIMEOUT_S = 10.0
"""How long one question to the hub's API may be silent."""


@dataclass(frozen=True)
class HubAccess:
    """What is None is as the hub's own client has it: HF_ENDPOINT, a saved login, HF_HUB_CACHE or HF_HOME."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    cache_dir: Path | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """As the user's environment says: HF_TOKEN, or HUGGINGFACE_HUB_TOKEN, which the hub's client doesn't know."""
        return cls(token=os.environ.get("HF_TOKEN") or os.environ.get("HUGGINGFACE_HUB_TOKEN") or None)

    @property
    def cache(self) -> Path:
        """The folder of the hub's cache."""
        from huggingface_hub import constants

        return self.cache_dir or Path(constants.HF_HUB_CACHE)

    @property
    def url(self) -> str:
        """The hub's address."""
        from huggingface_hub import constants

        return self.endpoint or str(constants.ENDPOINT)

    def api(self) -> Any:
        """The hub's client, with a limit on silence, which it has not by itself."""
        from huggingface_hub import HfApi, get_session

        get_session().timeout = API_TIMEOUT_S
        return HfApi(endpoint=self.endpoint, token=self.token)

    def environment(self) -> dict[str, str]:
        """The same for a process that is started with these variables."""
        given = {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": self.token, "HF_HUB_CACHE": self.cache_dir}
        return {name: str(value) for name, value in given.items() if value is not None}


def check_hub_id(text: str) -> None:
    """Refuse what can't name a repository. Raises NotAHubId."""
    parts = text.split("/")
    if not HUB_ID.fullmatch(text) or "--" in text or ".." in text or any(len(part) > MAX_PART for part in parts):
        raise NotAHubId(text)
