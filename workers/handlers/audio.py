"""Models that hear or speak, loaded by mlx-audio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Load, Loading, ModelFacts
from mlx_server.schemas.internal.sound import SpeechRequest, TranscriptionRequest
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.hear.hearing import Hearing
from mlx_server.workers.engine.hear.loading import read_hearing
from mlx_server.workers.engine.hear.transcription import SAMPLE_RATE, OpenedTranscription
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.media.recordings import RecordingReader
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.speak.loading import read_speaking
from mlx_server.workers.engine.speak.speaking import Speaking
from mlx_server.workers.folders.audio_types import audio_kind
from mlx_server.workers.folders.model_files import read_json
from mlx_server.workers.handlers.base import DECODERS
from mlx_server.workers.handlers.wordless import WordlessHandler


class AudioHandler(WordlessHandler):
    """One model, which does one of the two."""

    def __init__(self) -> None:
        super().__init__()
        self._hearing: Hearing | None = None
        self._speaking: Speaking | None = None
        self._reader: RecordingReader | None = None

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read and try the model. Raises ModelLoadError."""
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report, "audio")
        config = read_json(folder, "config.json")
        if audio_kind(config, folder.name) == "stt":
            self._hearing, size, notes = read_hearing(folder, spec.cpu_dtype, report)
            self.engine = self._hearing.engine
            self._reader = RecordingReader(spec.media_limits, DECODERS)
        else:
            self._speaking, size, notes = read_speaking(folder, spec.cpu_dtype, report)
            self.engine = self._speaking.engine
        return self._facts(spec, config, size, notes)

    def open(self, request: Work, abandoned: IsCancelled = never) -> Work:
        """Decode a recording. Raises InvalidRequest, before it is decoded for what the model can't do."""
        if not isinstance(request, TranscriptionRequest) or self._hearing is None or self._reader is None:
            return request
        self._hearing.check(request)
        recording = self._reader.read(request.path, request.param, SAMPLE_RATE, abandoned)
        return OpenedTranscription(**asdict(request), recording=recording)

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """A request's job. Raises InvalidRequest."""
        match request:
            case OpenedTranscription() if self._hearing is not None:
                return [self._hearing.job(ticket, request)]
            case SpeechRequest() if self._speaking is not None:
                return [self._speaking.job(ticket, request)]
        does = "hears, and does not speak" if self._hearing is not None else "speaks, and does not hear"
        raise InvalidRequest(f"This model {does}.", "model")

    def close(self) -> None:
        """Forget all requests, and end the decoders."""
        super().close()
        if self._reader is not None:
            self._reader.close()

    def _facts(self, spec: Load, config: dict[str, Any], size: int, notes: list[str]) -> ModelFacts:
        return ModelFacts(
            rows=spec.rows,
            context_length=None,
            vocab_size=0,
            parameter_bytes=size,
            architecture=str(config.get("model_type") or "audio"),
            device=platform.device_name(),
            notes=tuple(notes),
            chats=False,
            transcribes=self._hearing is not None,
            languages=self._hearing.languages if self._hearing is not None else (),
            speaks=self._speaking is not None,
        )
