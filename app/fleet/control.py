"""What an operator may ask of the running server: to stop, and to read its configuration again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from mlx_server.app.config.settings import Settings
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.fleet.reload import ReloadReport


class Control:
    """Whoever runs the application says how it is stopped and where it listens; embedded, it can do neither."""

    def __init__(self, fleet: Fleet, applied: Callable[[Settings], None]) -> None:
        """`applied` is called with settings that were read again, for what is no model's."""
        self._fleet = fleet
        self._applied = applied
        self._restarting = asyncio.Lock()
        self.stop: Callable[[], None] | None = None
        """Begins the end; returns at once."""
        self.listen: Callable[[Settings], Awaitable[str | None]] | None = None
        """Listens where the settings say, and no longer elsewhere; returns why it can't."""

    def shutdown(self) -> bool:
        """Drain and end the server; False if whoever embeds it has to do that."""
        if self.stop is None:
            return False
        self.stop()
        return True

    async def restart(self, *, host: str | None = None, port: int | None = None) -> ReloadReport:
        """Read the configuration again, without dropping what runs, and listen at its address or the one given.

        Where that can't be listened on, the rest is in force all the same, and the report has the error.
        """
        async with self._restarting:
            before = self._fleet.settings
            report = await self._fleet.reload(host=host, port=port)
            self._applied(self._fleet.settings)
            if self.listen is None or report.error is not None:
                return report
            problem = await self.listen(self._fleet.settings)
            if problem is None:
                return report
            self._fleet.apply_settings(replace(self._fleet.settings, host=before.host, port=before.port))
            return report.failed(f"The configuration was read again, and the address stays as it was: {problem}")
