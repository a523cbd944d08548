"""Files, uploads and batches: their routes, and what of the application keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.routing import Route

from mlx_server.app.config.settings import Settings
from mlx_server.app.files.file_store import FileStore, Quota
from mlx_server.app.files.tables import MIGRATIONS
from mlx_server.app.files.upkeep import Upkeep
from mlx_server.app.files.upload_store import UploadStore
from mlx_server.app.routes.offline import files, uploads
from mlx_server.app.storage.database import Database, StoreError

ROUTES = [
    Route("/v1/files", files.files, methods=["GET", "POST"]),
    Route("/v1/files/{id}", files.one, methods=["GET", "DELETE"]),
    Route("/v1/files/{id}/content", files.content),
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
    upkeep: Upkeep

    @classmethod
    def open(cls, settings: Settings) -> Offline:
        """Below the data directory, made if need be. Raises StoreError."""
        database = Database(settings.data_dir / "files.sqlite3", "store of files", MIGRATIONS)
        quota = Quota(settings.file_quota_bytes, settings.file_quota_count)
        try:
            files = FileStore(database, settings.data_dir / "files", quota)
            uploads = UploadStore(database, files)
        except OSError as error:
            database.close()
            raise StoreError(f"files can't be kept in {settings.data_dir}: {error}") from None
        return cls(database, files, uploads, Upkeep(database, files, uploads))

    def start(self) -> None:
        """Begin to sweep."""
        self.upkeep.start()

    async def close(self) -> None:
        """End it."""
        await self.upkeep.close()
        self.database.close()
