"""Settings that a client has stored, before there is a server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mlx_server.app.registry.app_settings import Value
from mlx_server.app.registry.registry import FILE, Registry


def store(data_dir: Path, **settings: Value) -> None:
    """Keep settings as PUT /v1/settings does."""

    async def keep() -> None:
        registry = Registry.open(data_dir / FILE)
        for key, value in settings.items():
            await registry.set_setting(key, value)
        registry.close()

    asyncio.run(keep())
