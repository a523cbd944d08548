"""Whisper, of any size: loaded by mlx-audio, written down by an engine of our own that takes requests together."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.sound import TranscriptionRequest
from mlx_server.workers.engine.hear.hearing import check_language
from mlx_server.workers.engine.hear.transcription import OpenedTranscription, Transcription
from mlx_server.workers.engine.hear.whisper_decoder import WhisperDecoder
from mlx_server.workers.engine.hear.whisper_engine import WhisperEngine
from mlx_server.workers.engine.hear.whisper_tokens import tokens_of
from mlx_server.workers.engine.hear.windows import FRAMES
from mlx_server.workers.engine.jobs import refuse

ENGLISH = ("en",)


class Whisper:
    """A loaded model. Engine thread, but for `check`, which reads what does not change, and `job`."""

    def __init__(self, model: Any) -> None:
        tokens = tokens_of(model)
        self._model = model
        self._tokens = tokens
        self._tokenizer = model.get_tokenizer()
        self.languages = tuple(tokens.languages) or ENGLISH
        self.engine = WhisperEngine(model, tokens)

    def try_out(self) -> None:
        """One window through encoder and decoder."""
        silence = mx.zeros((1, FRAMES, self._model.dims.n_mels), self._model.dtype)
        decoder = WhisperDecoder(self._model, self._model.encoder(silence), [[self._tokens.start]])
        mx.eval(decoder.prompt_logits([0]))

    def check(self, request: TranscriptionRequest) -> None:
        """Raises InvalidRequest."""
        check_language(request.language, self.languages)
        refuse(request.translate and not self._tokens.languages, "model", "understands English only")

    def job(self, ticket: int, request: OpenedTranscription) -> Transcription:
        """A request's work. Raises InvalidRequest for a prompt that is too long."""
        words = " ".join(request.hotwords)
        text = " ".join(part for part in (words, request.prompt) if part)
        context = self._tokenizer.encode(f" {text.strip()}") if text.strip() else []
        longest = self._model.dims.n_text_ctx // 2 - 1
        if len(context) > longest:
            raise InvalidRequest(f"`prompt`: at most {longest} tokens are allowed, got {len(context)}.", "prompt")
        job = Transcription(
            (ticket, 0),
            [],
            0,
            request=request,
            language=request.language or "",
            translate=request.translate,
            context=context,
        )
        job.total = -(-job.frames // 100)
        return job


def is_whisper(model: Any) -> bool:
    """Whether mlx-audio loaded a Whisper."""
    return ".models.whisper." in f"{type(model).__module__}."


def suited(model: Any) -> None:
    """The tables that are no parameters, in the type of its weights, after these have been given another."""
    dtype = model.decoder.positional_embedding.dtype
    model.dtype = dtype
    model.encoder._positional_embedding = model.encoder._positional_embedding.astype(dtype)
    model.decoder._mask = model.decoder._mask.astype(dtype)
