"""Files, uploads and batches: their routes, and what of the application keeps them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route

from mlx_server.app.batches.batch_store import BatchStore
from mlx_server.app.batches.calls import LineCaller
from mlx_server.app.batches.runner import BatchRunner
from mlx_server.app.config.settings import Settings
from mlx_server.app.files.file_store import FileStore, Quota
from mlx_server.app.files.tables import MIGRATIONS
from mlx_server.app.files.upkeep import Upkeep
from mlx_server.app.files.upload_store import UploadStore
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http import errors
from mlx_server.app.http.keys import KeyRing
from mlx_server.app.middleware.last_resort import LastResortMiddleware
from mlx_server.app.middleware.request_id import RequestIdMiddleware
from mlx_server.app.routes.offline import batches, files, message_batches, uploads
from mlx_server.app.storage.database import Database, StoreError

ROUTES = [
    Route("/v1/files", files.files, methods=["GET", "POST"]),
    Route("/v1/files/{id}", files.one, methods=["GET", "DELETE"]),
    Route("/v1/files/{id}/content", files.content),
    Route("/v1/batches", batches.batches, methods=["GET", "POST"]),
    Route("/v1/batches/{id}", batches.one),
    Route("/v1/batches/{id}/cancel", batches.cancel, methods=["POST"]),
    Route("/v1/messages/batches", message_batches.batches, methods=["GET", "POST"]),
    Route("/v1/messages/batches/{id}", message_batches.one, methods=["GET", "DELETE"]),
    Route("/v1/messages/batches/{id}/cancel", message_batches.cancel, methods=["POST"]),
    Route("/v1/messages/batches/{id}/results", message_batches.results, name=message_batches.RESULTS),
    Route("/v1/uploads", uploads.create, methods=["POST"]),
    Route("/v1/uploads/{id}/parts", uploads.add_part, methods=["POST"]),
    Route("/v1/uploads/{id}/complete", uploads.complete, methods=["POST"]),
    Route("/v1/uploads/{id}/cancel", uploads.cancel, methods=["POST"]),
]


@dataclass(frozen=True, slots=True)
class Offline:
    """What is kept, from `start` to `close`."""

    database: Database
    files: FileStore
    uploads: UploadStore
    batches: BatchStore
    upkeep: Upkeep

    @classmethod
    def open(cls, settings: Settings) -> Offline:
        """Below the data directory, made if need be. Raises StoreError."""
        database = Database(settings.data_dir / "files.sqlite3", "store of files", MIGRATIONS, durable=True)
        quota = Quota(settings.file_quota_bytes, settings.file_quota_count)
        try:
            files = FileStore(database, settings.data_dir / "files", quota)
            uploads = UploadStore(database, files)
            batches = BatchStore(database, settings.data_dir / "batches", files)
        except OSError as error:
            database.close()
            raise StoreError(f"files can't be kept in {settings.data_dir}: {error}") from None
        return cls(database, files, uploads, batches, Upkeep(database, files, uploads))

    def start(self) -> None:
        """Begin to sweep."""
        self.upkeep.start()

    async def close(self) -> None:
        """End it."""
        await self.upkeep.close()
        self.database.close()


def runner_for(app: Starlette, kept: Offline, fleet: Fleet, keys: KeyRing) -> BatchRunner:
    """What runs the batches of an application: their lines meet all that requests over HTTP meet but its doors."""
    routed = LastResortMiddleware(ExceptionMiddleware(app.router, handlers=errors.HANDLERS))
    inside = RequestIdMiddleware(routed, answered=Counter())  # no client waits for these answers
    call = LineCaller(inside, {"app": app})
    return BatchRunner(kept.batches, fleet, call, keys.of_owner, fleet.settings.max_body_bytes)
