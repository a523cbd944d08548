"""Subtitles of a long recording, as .srt or .vtt, with how far the server is with it.

pip install openai; mlx-server launch --model-path "$(mlx-server demo --model whisper-tiny)";
python examples/podcast_to_srt.py podcast.mp3
"""

from __future__ import annotations

import argparse
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from openai import OpenAI

LOOK_EVERY_S = 0.5


def show_progress(client: OpenAI, subtitles: Future[str]) -> None:
    """Until they are there: the seconds of sound that the server has heard, with those of others who ask it."""
    shown = None
    while not subtitles.done():
        stats: Any = client.get("/queue/stats", cast_to=object)
        jobs = [job for job in stats["queue_stats"]["jobs"] if job["unit"] == "seconds"]
        heard = sum(job["done"] for job in jobs), sum(job["total"] for job in jobs)
        if jobs and heard != shown:
            print("Heard {} of {} seconds".format(*heard), flush=True)
            shown = heard
        wait([subtitles], LOOK_EVERY_S)


def main() -> None:
    """Ask for them in one thread, look how far they are in another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a recording, or a film with sound")
    parser.add_argument("--output", type=Path, help="ends in .srt or .vtt; else beside the file, as .srt")
    parser.add_argument("--model", default="whisper-1", help="any name will do where one model is served")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    given = parser.parse_args()
    output: Path = given.output or given.file.with_suffix(".srt")
    if output.suffix not in (".srt", ".vtt"):
        parser.error("--output has to end in .srt or .vtt")
    # An hour of sound may take long to hear: nothing is sent until all of it was heard.
    client = OpenAI(base_url=given.base_url, api_key="not-needed", timeout=None)
    with ThreadPoolExecutor(1) as pool:
        subtitles = pool.submit(
            client.audio.transcriptions.create,
            model=given.model,
            file=given.file,
            response_format=output.suffix.removeprefix("."),
        )
        show_progress(client, subtitles)
    text = subtitles.result()
    output.write_text(text)
    print(f"{output}: {text.count(' --> ')} subtitles")


if __name__ == "__main__":
    main()
