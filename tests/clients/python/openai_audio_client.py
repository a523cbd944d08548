"""OpenAI's asynchronous Python SDK, with models that speak and hear: what is spoken to a file is heard from it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from checks import ANSWER, KEY, run_async
from openai import AsyncOpenAI

FOLDER = tempfile.TemporaryDirectory()
SPOKEN = Path(FOLDER.name) / "answer.mp3"


def client(url: str) -> AsyncOpenAI:
    """A client that shows every failure."""
    return AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)


async def hear(url: str, **more: Any) -> Any:
    """What is heard in the file."""
    async with client(url) as asking:
        return await asking.audio.transcriptions.create(model="whisper-1", file=SPOKEN, **more)


async def speech_to_file(url: str) -> None:
    speech = client(url).audio.speech.with_streaming_response
    async with speech.create(model="tts-1", voice="alloy", input=ANSWER) as response:
        assert response.headers["content-type"] == "audio/mpeg"
        await response.stream_to_file(SPOKEN)


async def transcription(url: str) -> None:
    heard = await hear(url)
    assert heard.text == ANSWER
    assert heard.usage.type == "duration"


async def streamed_transcription(url: str) -> None:
    async with client(url) as asking:
        stream = await asking.audio.transcriptions.create(model="whisper-1", file=SPOKEN, stream=True)
        events = [event async for event in stream]
    text = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == text == ANSWER


async def times_of_words(url: str) -> None:
    heard = await hear(url, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert " ".join(word.word for word in heard.words) == ANSWER
    assert all(0 <= word.start <= word.end <= heard.duration + 0.5 for word in heard.words)
    assert heard.segments[0].text.strip() == ANSWER


async def subtitles(url: str) -> None:
    assert (await hear(url, response_format="vtt")).startswith("WEBVTT\n\n00:00:0")


if __name__ == "__main__":
    with FOLDER:
        run_async(speech_to_file, transcription, streamed_transcription, times_of_words, subtitles)
