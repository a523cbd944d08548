"""Whisper on the engine: the same whoever is in the batch, and turns for all. The weights are random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from support.tiny.whisper import make_whisper
from support.voices.speech import SENTENCES, samples

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Recording as RecordingTold
from mlx_server.schemas.internal.messages import Result, Segment
from mlx_server.schemas.internal.sound import TranscriptionRequest
from mlx_server.workers.engine.hear.choice import Chooser
from mlx_server.workers.engine.hear.loading import read_hearing
from mlx_server.workers.engine.hear.transcription import SAMPLE_RATE, OpenedTranscription
from mlx_server.workers.engine.hear.whisper import Whisper
from mlx_server.workers.engine.hear.whisper_decoder import WhisperDecoder
from mlx_server.workers.engine.hear.whisper_engine import WhisperEngine
from mlx_server.workers.engine.media.recordings import Recording
from mlx_server.workers.engine.sequence import Broken, Computed, Key

PAUSE = np.zeros(SAMPLE_RATE // 2, np.float32)


@pytest.fixture(scope="module")
def whisper(whisper_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Whisper:
    folder = make_whisper(tmp_path_factory.mktemp("models") / "whisper", whisper_tiny)
    found, _, notes = read_hearing(folder, "auto", lambda loading: None)
    assert isinstance(found, Whisper)
    assert notes == []
    return found


def recording(*parts: np.ndarray[Any, Any]) -> Recording:
    made = Recording(SAMPLE_RATE)
    made.write((np.concatenate(parts) * 32767).astype("<i2").tobytes())
    return made


def request(sound: Recording, temperature: float = 0.4, **more: Any) -> OpenedTranscription:
    """At a temperature of its own each window is tried once; what is drawn depends on the recording alone."""
    return OpenedTranscription(path="", recording=sound, temperature=temperature, **more)


def transcripts(whisper: Whisper, requests: list[OpenedTranscription]) -> dict[int, list[Result]]:
    """What each comes to, all of them at once."""
    told: dict[int, list[Result]] = {}
    for ticket, one in enumerate(requests):
        whisper.engine.add(whisper.job(ticket, one))
        told[ticket] = []
    while whisper.engine.busy:
        for item in whisper.engine.step():
            assert isinstance(item, Computed), item
            told[item.key[0]] += item.results
    return told


def text(results: list[Result]) -> str:
    return "".join(one.text for one in results if isinstance(one, Segment)).strip()


def test_recordings_of_different_lengths_share_their_steps_and_change_nothing(whisper: Whisper) -> None:
    sounds = [
        recording(*(part for sentence in SENTENCES[at : at + count] for part in (samples(sentence), PAUSE)))
        for at, count in ((0, 1), (1, 9), (3, 2), (5, 3))
    ]
    requests = [request(sound) for sound in sounds]
    requests[2] = request(sounds[2], prompt="A note about the weather,")
    alone = [transcripts(whisper, [one])[0] for one in requests]
    together = transcripts(whisper, requests)
    assert [text(told) for told in together.values()] == [text(told) for told in alone]
    assert all(text(told) for told in alone)


def test_a_dictation_is_not_stuck_behind_a_lecture(whisper: Whisper) -> None:
    lecture = recording(*(samples(sentence) for sentence in SENTENCES * 2))
    whisper.engine.add(whisper.job(0, request(lecture)))
    ended: list[int] = []
    whisper.engine.step()
    whisper.engine.add(whisper.job(1, request(recording(samples(SENTENCES[0])))))
    while whisper.engine.busy:
        ended += [item.key[0] for item in whisper.engine.step() if isinstance(item, Computed) and item.finish]
    assert ended == [1, 0]


def test_who_leaves_is_heard_no_longer_and_the_others_are(whisper: Whisper) -> None:
    sounds = [recording(samples(sentence)) for sentence in SENTENCES[:3]]
    expected = [text(transcripts(whisper, [request(sound)])[0]) for sound in sounds]
    for ticket, sound in enumerate(sounds):
        whisper.engine.add(whisper.job(ticket, request(sound)))
    told: dict[Key, str] = {}
    steps = 0
    while whisper.engine.busy:
        steps += 1
        if steps == 4:
            whisper.engine.remove((1, 0))
        for item in whisper.engine.step():
            assert isinstance(item, Computed)
            told[item.key] = told.get(item.key, "") + text([*item.results])
    assert told[0, 0] == expected[0]
    assert told[2, 0] == expected[2]
    assert told[1, 0] == ""


def test_silence_says_nothing(whisper: Whisper) -> None:
    told = transcripts(whisper, [request(recording(np.zeros(40 * SAMPLE_RATE, np.float32)))])[0]
    assert [type(one) for one in told] == [RecordingTold]


def test_each_token_of_the_text_has_its_probability(whisper: Whisper) -> None:
    told = transcripts(whisper, [request(recording(samples(SENTENCES[0])), logprobs=True)])[0]
    reported = [token for one in told if isinstance(one, Segment) for token in one.logprobs]
    assert "".join(token.text for token in reported).strip() == text(told)
    assert all(token.logprob is not None and token.logprob <= 0 for token in reported)


def test_a_temperature_draws_the_same_again(whisper: Whisper) -> None:
    sound = recording(samples(SENTENCES[2]))
    first, second = (transcripts(whisper, [request(sound, temperature=0.8)])[0] for _ in range(2))
    assert first == second
    assert all(one.temperature == 0.8 for one in first if isinstance(one, Segment))


def test_what_comes_out_badly_is_tried_at_higher_temperatures(whisper: Whisper) -> None:
    noise = np.random.default_rng(1).normal(0, 0.2, 5 * SAMPLE_RATE).astype(np.float32).clip(-1, 1)
    told = transcripts(whisper, [request(recording(noise), temperature=0.0), request(recording(samples(SENTENCES[0])))])
    assert text(told[1])
    assert max(one.temperature or 0 for one in told[0] if isinstance(one, Segment)) > 0
    assert {one.temperature for one in told[1] if isinstance(one, Segment)} == {0.4}


def test_a_prompt_says_how_a_name_is_spelt(whisper: Whisper) -> None:
    job = whisper.job(0, request(recording(PAUSE), prompt="Dear Siobhan,", hotwords=("Kubernetes",)))
    assert whisper._tokenizer.decode(job.context).strip() == "Kubernetes Dear Siobhan,"
    with pytest.raises(InvalidRequest) as caught:
        whisper.job(0, request(recording(PAUSE), prompt="word " * 400))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("given", "param"),
    [(TranscriptionRequest("", language="tlh"), "language"), (TranscriptionRequest("", translate=True), "model")],
)
def test_what_a_model_for_english_cannot_do_is_refused(
    whisper: Whisper, given: TranscriptionRequest, param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        whisper.check(given)
    assert caught.value.param == param


class Endless(Chooser):
    """Writes the same token until it is stopped."""

    def choose(self, logits: mx.array, *rules: object, **more: object) -> tuple[list[int], list[float]]:
        rows = len(logits)
        return [5] * rows, [-0.1] * rows


class Positions:
    """The table of positions, for a look at those that are used."""

    def __init__(self, table: mx.array) -> None:
        self.table = table
        self.last = 0

    def __getitem__(self, positions: mx.array) -> mx.array:
        self.last = max(self.last, int(positions.max()))
        return self.table[positions]


@pytest.fixture
def positions(whisper: Whisper) -> Iterator[Positions]:
    """Those of the decoder, until the test ends."""
    decoder = whisper._model.decoder
    looked_at = Positions(decoder.positional_embedding)
    decoder.positional_embedding = looked_at
    yield looked_at
    decoder.positional_embedding = looked_at.table


def test_window_ends_at_the_last_position_however_long_its_beginning_is(whisper: Whisper, positions: Positions) -> None:
    dims = whisper._model.dims
    tokens = replace(whisper._tokens, languages={"en": 50259})  # a beginning of three tokens
    engine = WhisperEngine(whisper._model, tokens)
    engine._chooser = Endless(tokens, dims.n_vocab)
    long, short = (whisper.job(ticket, request(recording(samples(SENTENCES[0])))) for ticket in range(2))
    long.context = [5] * 300
    for job in (long, short):
        job.language = "en"
        engine.add(job)
    while not long.tokens:
        engine.step()
    assert positions.last == dims.n_text_ctx - 1
    assert long.tokens == dims.n_text_ctx - 227 + 1
    while not short.tokens:
        engine.step()
    assert short.tokens == dims.n_text_ctx // 2
    assert positions.last == dims.n_text_ctx - 1


@pytest.fixture
def broken_encoder(whisper: Whisper) -> Iterator[Callable[[], None]]:
    """Makes the encoder raise, until the test ends."""
    encoder = whisper._model.encoder

    def explode(mel: mx.array) -> mx.array:
        raise RuntimeError("no memory")

    def break_it() -> None:
        whisper._model.encoder = explode

    yield break_it
    whisper._model.encoder = encoder


def test_a_model_that_raises_ends_those_requests_only(whisper: Whisper, broken_encoder: Callable[[], None]) -> None:
    broken_encoder()
    whisper.engine.add(whisper.job(0, request(recording(samples(SENTENCES[0])))))
    assert whisper.engine.step() == [Broken((0, 0), "RuntimeError: no memory")]
    assert not whisper.engine.busy


def test_rows_of_different_prompts_have_the_logits_that_they_have_alone(whisper: Whisper) -> None:
    model = whisper._model
    features = mx.random.normal((2, model.dims.n_audio_ctx, model.dims.n_audio_state), key=mx.random.key(3))
    prompts = [[50257, 50362, 5, 6, 7], [50257]]
    together = WhisperDecoder(model, features, prompts)
    first = together.prompt_logits([0, 0])
    second = together.feed([9, 11])
    for row, prompt in enumerate(prompts):
        tokens = mx.array([[*prompt, (9, 11)[row]]])
        expected = model.decoder(tokens, features[row : row + 1])[0][0]
        assert mx.abs(first[row] - expected[-2]).max().item() < 1e-3
        assert mx.abs(second[row] - expected[-1]).max().item() < 1e-3
    together.keep([1])
    alone = together.feed([12])
    expected = model.decoder(mx.array([[50257, 11, 12]]), features[1:])[0][0, -1]
    assert mx.abs(alone[0] - expected).max().item() < 1e-3
