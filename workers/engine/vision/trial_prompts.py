"""The prompts that a model is tried with."""

from __future__ import annotations

import wave
from io import BytesIO

import numpy as np

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Media, Message, Sampling, TextPrompt
from mlx_server.workers.engine.media.media import MediaDecoder
from mlx_server.workers.engine.media.trial_picture import trial_picture
from mlx_server.workers.engine.prompt.prompts import PromptMaker
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.vision.reference_trace import TOKENS

TEXT = "One, two, three, four, five, six, seven, eight, nine, ten."
SIZES = ((96, 64), (64, 112))


def trial_sequences(prompts: PromptMaker, files: MediaDecoder) -> tuple[list[Sequence], str]:
    """A text, a picture, and a second picture that goes on from there, as far as the model takes these; and why it
    takes no pictures, if it does not. Raises InvalidRequest if it does not even take texts."""
    first, second = files.decode([trial_picture(size) for size in SIZES])
    look = Message("user", "What is this?", media=(first,))
    seen = (look, Message("assistant", "A picture."), Message("user", "And this?", media=(second,)))
    sequences = [made(prompts, 0, TextPrompt(TEXT))]
    for number, messages in enumerate(((look,), seen), 1):
        try:
            sequences.append(made(prompts, number, ChatPrompt(messages)))
        except InvalidRequest as error:
            return sequences, error.message if number == 1 else ""
    return sequences, ""


def made(prompts: PromptMaker, number: int, prompt: ChatPrompt | TextPrompt) -> Sequence:
    """A greedy sequence. Raises InvalidRequest."""
    request = GenerationRequest((prompt,), TOKENS, sampling=Sampling(temperature=0.0))
    [sequence] = prompts.sequences(number, request)
    return sequence


def chirp(seconds: float, rate: int, hertz: float) -> Media:
    """A tone that begins at `hertz` and goes up and down by two octaves every two seconds."""
    times = np.arange(int(seconds * rate)) / rate
    pitch = hertz * 2 ** (1 - np.cos(np.pi * times))
    samples = np.sin(2 * np.pi * np.cumsum(pitch) / rate) * 16_000
    file = BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(samples.astype("<i2").tobytes())
    return Media("audio", file.getvalue(), 0, "messages")
