"""Models that draw, through mlx-vlm's networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Load, Loading, ModelFacts
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.draw.drawing import drawing_of
from mlx_server.workers.engine.draw.family import Family
from mlx_server.workers.engine.draw.loading import load
from mlx_server.workers.engine.draw.sources import SourceReader
from mlx_server.workers.engine.jobs import JobEngine
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.handlers.base import DECODERS
from mlx_server.workers.handlers.wordless import WordlessHandler


class ImageHandler(WordlessHandler):
    """One model. Requests take turns, a denoising step each."""

    def __init__(self) -> None:
        super().__init__()
        self._family: Family
        self._sources: SourceReader | None = None

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read and try the model. Raises ModelLoadError."""
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report, "image")
        model = load(folder, spec.cpu_dtype, report)
        self._family = model.family
        self.engine = JobEngine()
        self._sources = SourceReader(spec.media_limits, DECODERS)
        return ModelFacts(
            rows=spec.rows,
            context_length=None,
            vocab_size=0,
            parameter_bytes=model.weight_bytes,
            architecture=model.family.name,
            device=platform.device_name(),
            notes=tuple(model.notes),
            chats=False,
            draws=True,
        )

    def open(self, request: Work, abandoned: IsCancelled = never) -> Work:
        """Decode the picture that is to be changed. Raises InvalidRequest."""
        if not isinstance(request, PictureRequest) or self._sources is None:
            return request
        return self._sources.open(request, abandoned)

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """A request's job. Raises InvalidRequest."""
        if not isinstance(request, PictureRequest):
            raise InvalidRequest("This model draws, and does nothing else.", "model")
        return [drawing_of(ticket, request, self._family)]

    def close(self) -> None:
        """Forget all requests, and end the decoders."""
        super().close()
        if self._sources is not None:
            self._sources.close()
