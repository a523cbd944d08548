"""When each word of a window is said, and how sure the model is of each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_audio.stt.models.whisper.timing import add_word_timestamps
from msgspec.structs import replace

from mlx_server.schemas.internal.messages import Segment, TokenLogprob, Word
from mlx_server.workers.engine.hear.transcription import FRAME_SAMPLES, SAMPLE_RATE, Transcription


class _Heard:
    """The model for mlx-audio's alignment, with a window that has been through the encoder."""

    def __init__(self, model: Any, features: mx.array) -> None:
        self.alignment_heads = model.alignment_heads
        self._decoder = model.decoder
        self._features = features

    def forward_with_cross_qk(self, mel: mx.array, tokens: mx.array) -> tuple[mx.array, list[mx.array]]:
        """Logits [1, T, V] and each layer's attention to the sound, before its softmax."""
        logits, _, attention = self._decoder(tokens, self._features[None])
        return logits, attention


def with_words(
    model: Any, tokenizer: Any, job: Transcription, segments: Sequence[Segment], advance: int
) -> tuple[list[Segment], int]:
    """A window's segments with their words' times, and how many frames later the next window begins: after the last
    word, if the window does not end with its last segment."""
    assert job.features is not None
    found: list[dict[str, Any]] = [
        {"seek": job.seek, "start": one.start_s, "end": one.end_s, "tokens": list(one.tokens)} for one in segments
    ]
    spoken = model.get_tokenizer(language=job.language, task="translate" if job.translate else "transcribe")
    add_word_timestamps(
        segments=found,
        model=_Heard(model, job.features),
        tokenizer=spoken,
        mel=mx.zeros((1,)),
        num_frames=job.window_frames,
        last_speech_timestamp=job.last_speech_s,
    )
    timed = []
    for segment, times in zip(segments, found, strict=True):
        words = tuple(Word(one["word"], one["start"], one["end"]) for one in times["words"])
        timed.append(replace(segment, start_s=times["start"], end_s=times["end"], words=words))
    ends = [one.words[-1].end_s for one in timed if one.words]
    if ends:
        job.last_speech_s = ends[-1]
        if advance < job.window_frames:
            advance = max(round(ends[-1] * SAMPLE_RATE / FRAME_SAMPLES) - job.seek, 1)
    return timed, advance


def token_logprobs(
    tokenizer: Any, segments: Sequence[Segment], tokens: Sequence[int], logprobs: Sequence[float], end: int
) -> list[Segment]:
    """The segments with the log-probabilities, in nats, of those of their tokens that are text."""
    reported, at = [], 0
    for segment in segments:
        stop = at + len(segment.tokens)
        pairs = [pair for pair in zip(tokens[at:stop], logprobs[at:stop], strict=True) if pair[0] < end]
        at = stop
        texts = [tokenizer.decode([token]) for token, _ in pairs]
        marks = [
            TokenLogprob(text, text.encode(), logprob, token)
            for text, (token, logprob) in zip(texts, pairs, strict=True)
        ]
        reported.append(replace(segment, logprobs=tuple(marks)))
    return reported
