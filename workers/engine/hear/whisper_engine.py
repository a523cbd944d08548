"""Writes recordings down with Whisper: windows of different requests go through the model together.

A round takes the next window of as many requests as fit, in turns, so that a minute's dictation is not stuck behind an
hour's lecture. Its first step is the encoder's, each other one a token of every window.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_audio.stt.models.whisper.audio import log_mel_spectrogram
from mlx_audio.stt.models.whisper.tokenizer import LANGUAGES

from mlx_server.schemas.internal.messages import Recording, Result, Segment
from mlx_server.workers.engine.hear.choice import Chooser
from mlx_server.workers.engine.hear.timestamp_rules import allowed_after
from mlx_server.workers.engine.hear.transcription import FRAME_SAMPLES, Transcription
from mlx_server.workers.engine.hear.whisper_decoder import WhisperDecoder
from mlx_server.workers.engine.hear.whisper_tokens import WhisperTokens
from mlx_server.workers.engine.hear.windows import (
    FORGETTING_TEMPERATURE,
    FRAMES,
    STEP_S,
    Piece,
    comes_out_badly,
    compression_ratio,
    cut,
    is_silence,
)
from mlx_server.workers.engine.hear.words import token_logprobs, with_words
from mlx_server.workers.engine.jobs import broken
from mlx_server.workers.engine.media.recordings import is_silent
from mlx_server.workers.engine.media.sounds import Samples
from mlx_server.workers.engine.sequence import Computed, Key, Produced, Sequence

MOST_WINDOWS = 8
"""Of a round: more gain little, and whoever comes meanwhile waits for it."""


@dataclass(eq=False, slots=True)
class OpenWindow:
    """A window that is being written down, in `most` tokens at most."""

    job: Transcription
    no_speech: float
    most: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def avg_logprob(self) -> float:
        """In nats per token, the end included."""
        return sum(self.logprobs) / max(1, len(self.logprobs))


class WhisperEngine:
    """Engine thread only. `model` is mlx-audio's, `tokens` are its special ones."""

    def __init__(self, model: Any, tokens: WhisperTokens) -> None:
        self._model = model
        self._tokens = tokens
        self._tokenizer = model.get_tokenizer()
        self._chooser = Chooser(tokens, model.dims.n_vocab)
        self._positions: int = model.dims.n_text_ctx
        self._longest: int = self._positions // 2
        self._waiting: dict[Key, Transcription] = {}
        self._rows: list[OpenWindow] = []
        self._decoder: WhisperDecoder | None = None
        self._logits: mx.array | None = None

    @property
    def busy(self) -> bool:
        """Whether any recording is not written down yet."""
        return bool(self._waiting or self._rows)

    def add(self, sequence: Sequence) -> None:
        """Take in a recording; the next round hears its first window."""
        assert isinstance(sequence, Transcription)
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a recording, wherever it is; unknown keys are ignored."""
        self._waiting.pop(key, None)
        others = [at for at, row in enumerate(self._rows) if row.job.key != key]
        if len(others) < len(self._rows):
            self._keep(others)

    def close(self) -> None:
        """Release all recordings."""
        self._waiting.clear()
        self._keep([])

    def step(self) -> list[Produced]:
        """The encoder's step of a round, or a token for each of its windows."""
        if not self._rows:
            return self._begin()
        try:
            return self._write()
        except Exception as error:  # noqa: BLE001 - whatever a model raises ends these requests only
            jobs = [row.job for row in self._rows]
            self._keep([])
            return [broken(job.key, error) for job in jobs]

    def _begin(self) -> list[Produced]:
        """Hear the next windows. A recording whose window holds no sound goes on by itself."""
        jobs = list(islice(self._waiting.values(), MOST_WINDOWS))
        for job in jobs:
            del self._waiting[job.key]
        heard: list[tuple[Transcription, Samples]] = []
        produced: list[Produced] = []
        for job in jobs:
            samples = job.samples()
            if is_silent(samples):
                produced.append(self._after(job, [], job.window_frames))
            else:
                heard.append((job, samples))
        if heard:
            try:
                self._hear(heard)
                produced += [Computed(job.key, self._announced(job), None, job.progress) for job, _ in heard]
            except Exception as error:  # noqa: BLE001 - whatever a model raises ends these requests only
                self._keep([])
                produced += [broken(job.key, error) for job, _ in heard]
        return produced

    def _hear(self, heard: Several[tuple[Transcription, Samples]]) -> None:
        new = [(job, samples) for job, samples in heard if job.features is None]
        if new:
            features = self._model.encoder(mx.stack([self._mel(samples) for _, samples in new]))
            for (job, _), its_features in zip(new, features, strict=True):
                job.features = its_features
        jobs = [job for job, _ in heard]
        together = mx.stack([job.features for job in jobs if job.features is not None])
        self._tell_languages(jobs, together)
        prompts = [self._prompt(job) for job in jobs]
        begun = [len(self._tokens.beginning(job.language, translate=job.translate)) for job in jobs]
        decoder = WhisperDecoder(self._model, together, prompts)
        no_speech = [0.0] * len(jobs)
        if self._tokens.no_speech is not None:
            at_start = mx.softmax(decoder.prompt_logits([count - 1 for count in begun]), axis=-1)
            no_speech = np.asarray(at_start[:, self._tokens.no_speech]).tolist()
        self._decoder = decoder
        self._logits = decoder.prompt_logits([0] * len(jobs))
        most = [self._most_after(len(prompt)) for prompt in prompts]
        self._rows = [OpenWindow(*one) for one in zip(jobs, no_speech, most, strict=True)]

    def _mel(self, samples: Samples) -> mx.array:
        """A window's spectrogram, [FRAMES, mels]. After the end of the sound it is 0, which is what silence beside
        nothing else would not be: so the models were trained."""
        padded = np.pad(samples, (0, FRAMES * FRAME_SAMPLES - samples.size))
        mel: mx.array = log_mel_spectrogram(padded, n_mels=self._model.dims.n_mels)
        frames = -(-samples.size // FRAME_SAMPLES)
        return mx.pad(mel[:frames], [(0, FRAMES - frames), (0, 0)]).astype(self._model.dtype)

    def _tell_languages(self, jobs: Several[Transcription], features: mx.array) -> None:
        """Find out what is spoken where the request does not say."""
        unknown = [at for at, job in enumerate(jobs) if not job.language]
        if not unknown:
            return
        codes = list(self._tokens.languages)
        if not codes:
            for at in unknown:
                jobs[at].language = "en"
            return
        start = [[self._tokens.start]] * len(unknown)
        logits = WhisperDecoder(self._model, features[mx.array(unknown)], start).prompt_logits([0] * len(unknown))
        among = logits[:, mx.array([self._tokens.languages[code] for code in codes])]
        for at, best in zip(unknown, np.asarray(mx.argmax(among, axis=-1)).tolist(), strict=True):
            jobs[at].language = codes[best]

    def _prompt(self, job: Transcription) -> list[int]:
        """What a window's transcript begins with: the end of what came before, and what it is."""
        beginning = self._tokens.beginning(job.language, translate=job.translate)
        context = job.context[-(self._longest - 1) :]
        return [self._tokens.previous, *context, *beginning] if context else beginning

    def _most_after(self, prompt_tokens: int) -> int:
        """How many tokens may be written behind so many: each but the last one needs a position of its own."""
        return min(self._longest, self._positions - prompt_tokens + 1)

    def _write(self) -> list[Produced]:
        assert self._decoder is not None
        assert self._logits is not None
        rows, tokens = self._rows, self._tokens
        allowed = [allowed_after(row.tokens, tokens.timestamp, self._model.dims.n_vocab) for row in rows]
        temperatures = [row.job.temperature for row in rows]
        keys = [draw_key(row) for row in rows]
        chosen, logprobs = self._chooser.choose(self._logits, allowed, temperatures, keys, first=not rows[0].tokens)
        ended: list[int] = []
        going: list[int] = []
        for at, (row, token, logprob) in enumerate(zip(rows, chosen, logprobs, strict=True)):
            row.logprobs.append(logprob)
            if token != tokens.end:
                row.tokens.append(token)
            (ended if token == tokens.end or len(row.tokens) >= row.most else going).append(at)
        produced = [self._ended(rows[at]) for at in ended]
        if ended:
            self._keep(going)
        if going:
            self._logits = self._decoder.feed([chosen[at] for at in going])
        return produced

    def _keep(self, at: Several[int]) -> None:
        """Only these rows of the round go on."""
        if not at:
            self._rows, self._decoder, self._logits = [], None, None
            mx.clear_cache()  # every round has shapes of its own, and MLX would keep memory for all of them
        elif len(at) < len(self._rows) and self._decoder is not None and self._logits is not None:
            self._rows = [self._rows[place] for place in at]
            self._decoder.keep(at)
            self._logits = self._logits[mx.array(list(at))]

    def _ended(self, row: OpenWindow) -> Produced:
        """What a window has come to: its segments, or another try."""
        job, text = row.job, self._tokenizer.decode(row.tokens).strip()
        compression = compression_ratio(text)
        if comes_out_badly(compression, row.avg_logprob, row.no_speech) and job.tries_left:
            job.attempt += 1
            self._waiting[job.key] = job
            return Computed(job.key, (), None, job.progress)
        job.tokens += len(row.tokens)
        if is_silence(row.avg_logprob, row.no_speech):
            return self._after(job, [], job.window_frames)
        found = cut(row.tokens, job.window_frames, self._tokens.timestamp)
        segments = [self._segment(row, piece, compression) for piece in found.pieces]
        advance = found.advance
        if job.request.words:
            segments, advance = with_words(self._model, self._tokenizer, job, segments, advance)
        if job.request.logprobs:
            segments = token_logprobs(self._tokenizer, segments, row.tokens, row.logprobs, self._tokens.end)
        if job.temperature > FORGETTING_TEMPERATURE:
            job.context = []
        else:
            job.context += [token for piece in found.pieces for token in piece.tokens]
        return self._after(job, segments, advance)

    def _segment(self, row: OpenWindow, piece: Piece, compression: float) -> Segment:
        job = row.job
        begin_s = job.seek * FRAME_SAMPLES / job.recording.sample_rate
        return Segment(
            *job.key,
            text=self._tokenizer.decode([token for token in piece.tokens if token < self._tokens.end]),
            start_s=begin_s + piece.start * STEP_S,
            end_s=min(begin_s + piece.end * STEP_S, job.recording.duration_s),
            seek=job.seek,
            tokens=piece.tokens,
            temperature=job.temperature,
            avg_logprob=row.avg_logprob,
            compression_ratio=compression,
            no_speech_prob=row.no_speech,
        )

    def _after(self, job: Transcription, segments: Several[Segment], advance: int) -> Computed:
        """What clients are told, and the job's next turn."""
        job.move(advance)
        said = [one for one in segments if one.text.strip() and one.end_s > one.start_s]
        if not job.over:
            self._waiting[job.key] = job
        results: tuple[Result, ...] = (*self._announced(job), *said)
        return Computed(job.key, results, "stop" if job.over else None, job.progress)

    def _announced(self, job: Transcription) -> tuple[Result, ...]:
        """What the recording is, once: when its language is known, or it is over without a word."""
        if job.announced or not (job.language or job.over):
            return ()
        job.announced = True
        return (Recording(*job.key, LANGUAGES.get(job.language, ""), job.recording.duration_s),)


def draw_key(row: OpenWindow) -> int:
    """The key of a row's next token where it is drawn: the same recording gives the same transcript."""
    return zlib.crc32(f"{row.job.seek} {row.job.attempt} {len(row.tokens)}".encode())
