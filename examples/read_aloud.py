"""A text file read aloud, as an MP3 that can be played while the rest of it is computed.

pip install openai; mlx-server launch --model-path "$(mlx-server demo --model kokoro)";
python examples/read_aloud.py book.txt
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from openai import OpenAI

MOST_CHARACTERS = 4096  # of one request


def pieces_of(text: str) -> Iterator[str]:
    """The paragraphs and sentences of a text, as many together as a request may have."""
    piece = ""
    for part in re.split(r"(?<=\n\n)|(?<=[.!?]\s)", text):
        if piece.strip() and len(piece) + len(part) > MOST_CHARACTERS:
            yield piece
            piece = ""
        piece += part
    if piece.strip():
        yield piece


def main() -> None:
    """One request after the other, all into one file: MP3s may be put in a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a text in UTF-8")
    parser.add_argument("--output", type=Path, help="else beside the file, as .mp3")
    parser.add_argument("--voice", default="alloy", help="one that GET /v1/audio/voices lists, or one of OpenAI's")
    parser.add_argument("--model", default="tts-1", help="any name will do where one model is served")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    given = parser.parse_args()
    output: Path = given.output or given.file.with_suffix(".mp3")
    client = OpenAI(base_url=given.base_url, api_key="not-needed")
    speech = client.audio.speech.with_streaming_response
    size = 0
    with output.open("wb", buffering=0) as file:
        for piece in pieces_of(given.file.read_text()):
            with speech.create(model=given.model, voice=given.voice, input=piece) as sound:
                for data in sound.iter_bytes():
                    file.write(data)
                    size += len(data)
                    print(f"\r{size // 1024} kB", end="", flush=True)
    print(f" in {output}")


if __name__ == "__main__":
    main()
