"""The examples of models that hear, speak and draw: what one of them says, another writes down."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from support.examples import EXAMPLES, run_notebook, run_script
from support.running import sdks
from support.running.servers import Server
from support.voices.speech import SENTENCES, spoken, word_error_rate

pytestmark = pytest.mark.model


def test_what_is_read_aloud_can_be_dictated(studio_server: Server, tmp_path: Path) -> None:
    text = SENTENCES[3]
    (tmp_path / "text.txt").write_text(text)
    said = run_script("read_aloud.py", studio_server, tmp_path / "text.txt")
    assert f" in {tmp_path / 'text.mp3'}" in said
    heard = run_script("dictation.py", studio_server, tmp_path / "text.mp3")
    assert word_error_rate(text, heard) <= 0.13, heard


def test_dictation_without_a_microphone_says_what_to_do() -> None:
    command = [sdks.python(), EXAMPLES / "dictation.py"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 1
    assert "install it, or name a file" in done.stderr


def test_subtitles_come_with_how_far_they_are(studio_server: Server, tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(spoken(" ".join(SENTENCES[:5])))
    said = run_script("podcast_to_srt.py", studio_server, tmp_path / "talk.wav")
    assert re.search(r"^Heard \d+ of \d\d seconds$", said, re.MULTILINE), said
    subtitles = (tmp_path / "talk.srt").read_text()
    assert f"{tmp_path / 'talk.srt'}: {subtitles.count(' --> ')} subtitles" in said
    assert subtitles.startswith("1\n00:00:0")
    assert SENTENCES[0] in subtitles
    assert SENTENCES[4] in subtitles


def test_pictures_are_drawn_and_changed(studio_server: Server, tmp_path: Path) -> None:
    drawn, changed = tmp_path / "drawn.png", tmp_path / "changed.png"
    said = run_script("draw.py", studio_server, "a red circle, left", "--seed", 1, "--unfinished", 2, "--output", drawn)
    assert said.splitlines() == [
        f"{tmp_path / 'drawn-0.png'}: 64x64, unfinished",
        f"{tmp_path / 'drawn-1.png'}: 64x64, unfinished",
        f"{drawn}: 64x64, seed 1",
    ]
    said = run_script("draw.py", studio_server, "a blue circle", "--change", drawn, "--seed", 2, "--output", changed)
    assert said.splitlines() == [f"{changed}: 64x64, seed 2"]
    for path in (drawn, changed):
        with Image.open(path) as picture:
            assert picture.size == (64, 64)


def test_notebook_of_speech_hears_what_it_says(studio_server: Server) -> None:
    shown = run_notebook("audio_examples.ipynb", AUDIO=studio_server)
    for found in (
        "Kind: audio/mpeg",
        "Heard: We will meet at the station. The capital of France is Paris.",
        "english, ",
        "  station.",
        "WEBVTT",
        "Segment: We will meet",
        "11 voices: af_alloy, ",
        "Refused: voice - ",
        "Refused: speed - ",
    ):
        assert found in shown, shown
    assert shown.count("display.Audio object") == 2


def test_notebook_of_pictures_draws_and_changes(studio_server: Server) -> None:
    shown = run_notebook("image_examples.ipynb", IMAGE=studio_server)
    for found in (
        "Drawn: 64x64 png 16 tokens",
        "Seeds: 7 8 9",
        "The same: True",
        "Address: /v1/ 96x64 webp",
        "image_generation.partial_image: (64, 64)",
        "image_generation.completed: (64, 64)",
        "The left half is kept: True",
        "Refused: size - ",
        "Refused: background - ",
    ):
        assert found in shown, shown
