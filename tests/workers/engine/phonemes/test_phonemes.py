"""English as Kokoro reads it."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from mlx_server.workers.engine.phonemes.espeak import EspeakError, phonemes
from mlx_server.workers.engine.phonemes.kokoro import LONGEST, EnglishPipeline, UnknownVoiceError, chunks


def _read(text: str, language: str = "en-us") -> list[str]:
    return [chunk.phonemes for chunk in chunks(text, language)]


def test_sounds_are_written_in_kokoros_letters() -> None:
    assert _read("Hello, my boy!") == ["həlˈO, mI bˈY!"]
    assert _read("The judge and the church, today.") == ["ðə ʤˈʌʤ ænd ðə ʧˈɜɹʧ, tədˈA."]


def test_american_and_british_differ() -> None:
    assert _read("Better go.") == ["bˈɛTəɹ ɡˈO."]
    assert _read("Better go.", "en") == ["bˈɛtə ɡˈQ."]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith paid $3.50, at 10:30 a.m. today.", ["Dr. Smith paid $3.50, at 10:30 a.m.", "today."]),
        ("A title\nA line", ["A title.", "A line."]),
        ('He said: "Wow!" Then he left', ['He said: "Wow!"', "Then he left."]),
        ("... ?!", []),
        ("", []),
    ],
    ids=["sentences", "abbreviations", "lines", "quotes", "marks", "empty"],
)
def test_texts_are_spoken_by_sentences(text: str, said: list[str]) -> None:
    assert [chunk.text for chunk in chunks(text, "en-us")] == said


def test_long_sentences_are_cut_between_words() -> None:
    read = _read("She sells sea shells, " * 60)
    assert len(read) > 1
    assert max(map(len, read)) <= LONGEST
    whole = " ".join(read)
    assert whole.count("ʃˈɛlz") == 60


def test_a_word_without_an_end_is_cut_too() -> None:
    read = _read("ha" * 2000)
    assert len(read) > 1
    assert max(map(len, read)) <= LONGEST


def test_unknown_languages_are_refused() -> None:
    with pytest.raises(EspeakError, match="no language klingon-2"):
        phonemes("nuqneH", "klingon-2")


def test_voices_are_those_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    styles = mx.arange(4 * 2, dtype=mx.float32).reshape(4, 1, 2)
    mx.save_safetensors(str(tmp_path / "voices" / "af_one.safetensors"), {"voice": styles})
    asked: list[tuple[str, list[list[float]], float]] = []

    def model(sounds: str, style: mx.array, speed: float) -> mx.array:
        asked.append((sounds, style.tolist(), speed))
        return mx.zeros((1, 3))

    pipeline = EnglishPipeline(model, "en-us", tmp_path)
    spoken = list(pipeline("Go! Hello.", "af_one", speed=1.5))
    assert [part[:2] for part in spoken] == [("Go!", "ɡˈO!"), ("Hello.", "həlˈO.")]
    assert asked == [("ɡˈO!", [[6.0, 7.0]], 1.5), ("həlˈO.", [[6.0, 7.0]], 1.5)]
    for name in ("af_two", "../voices/af_one", str(tmp_path / "voices" / "af_one.safetensors")):
        with pytest.raises(UnknownVoiceError, match=r"it has af_one$"):
            list(pipeline("Go!", name))


def test_a_zero_in_a_text_does_not_end_it() -> None:
    assert phonemes("one\0two", "en-us") == phonemes("one two", "en-us")
