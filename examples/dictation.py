"""Dictation: what is said into the microphone, or in a file, as text that appears while it is heard.

pip install openai sounddevice; mlx-server launch --model-path "$(mlx-server demo --model whisper-tiny)";
python examples/dictation.py (or with a file, for which sounddevice is not needed)
"""

from __future__ import annotations

import argparse
import io
import wave
from pathlib import Path

from openai import OpenAI

RATE = 16_000  # hertz: what models that hear want


def record() -> bytes:
    """A WAV file of what is said until Enter is pressed: 16-bit samples, one channel."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # the package, or the system's PortAudio
        raise SystemExit(f"No microphone without sounddevice ({error}): install it, or name a file.") from None
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE)

        def keep(samples: bytes, *_: object) -> None:
            recording.writeframes(bytes(samples))

        with sounddevice.RawInputStream(RATE, channels=1, dtype="int16", callback=keep):
            input("Speak, then press Enter.")
    return file.getvalue()


def main() -> None:
    """Record or read, then write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a recording, or a film with sound; else the microphone")
    parser.add_argument("--language", help="such as 'en'; else the model hears which it is")
    parser.add_argument("--model", default="whisper-1", help="any name will do where one model is served")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    given = parser.parse_args()
    recording = ("microphone.wav", record()) if given.file is None else given.file
    more = {"language": given.language} if given.language else {}
    client = OpenAI(base_url=given.base_url, api_key="not-needed")
    for event in client.audio.transcriptions.create(model=given.model, file=recording, stream=True, **more):
        if event.type == "transcript.text.delta":
            print(event.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
