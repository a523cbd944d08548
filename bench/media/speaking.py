"""How soon speech begins, and whether it is understood: `python bench/media/speaking.py [--rounds 5]`.

Kokoro over HTTP. first: the time to the first sound of a text of ten sentences, over the time that its first sentence
takes alone, from beginning to end; in turns, who is first changes; at most 1.3. words: what a Whisper that is served
beside it hears of ten sentences, in words wrong; at most 0.1.

Raw rows go to bench/results/speaking.json. Exit code 0 when both targets were met, else 2.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import jiwer

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.peer_servers import Running, ours
from lib.processes import BENCH
from rich.console import Console
from rich.table import Table

from mlx_server.app.config.settings import default_cache_dir
from mlx_server.app.demo.demo import ensure_demo_model
from mlx_server.app.demo.models import SOURCES

RESULTS = BENCH / "results" / "speaking.json"
TARGETS = {"first_sound_ratio": 1.3, "word_error_rate": 0.1}
SENTENCES = (
    "The library opens early in the morning.",
    "My sister lives in a small house near the river.",
    "Please close the window before it rains.",
    "The children are playing in the garden behind the school.",
    "We missed the train and walked home slowly.",
    "He bought bread, milk and butter at the market.",
    "The old bridge was painted green last summer.",
    "Can you help me find my keys?",
    "A young doctor talked about sleep and good food.",
    "The weather is nice today and the sun is shining.",
)


def speak(url: str, text: str) -> tuple[bytes, float, float]:
    """The sound, and the seconds to its first bytes and to its end."""
    began = time.perf_counter()
    first, parts = 0.0, []
    with httpx.stream("POST", f"{url}/audio/speech", json={"input": text}, timeout=600) as answer:
        answer.raise_for_status()
        for part in answer.iter_raw():
            first = first or time.perf_counter() - began
            parts.append(part)
    return b"".join(parts), first, time.perf_counter() - began


def hear(url: str, sound: bytes) -> str:
    """What is understood of it."""
    answer = httpx.post(f"{url}/audio/transcriptions", files={"file": ("a.mp3", sound)}, timeout=600)
    answer.raise_for_status()
    return str(answer.json()["text"])


def plain(text: str) -> str:
    """Words without case and punctuation."""
    return " ".join("".join(mark if mark.isalnum() else " " for mark in text.lower()).split())


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    console = Console()
    voice, ears = (
        ensure_demo_model(default_cache_dir(), console, source=SOURCES[name]) for name in ("kokoro", "whisper")
    )
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch, Running([ours(voice, 4), ours(ears, 4)], Path(scratch)) as running:
        speaker, listener = (peer.url for peer in running.peers)
        speak(speaker, SENTENCES[0])
        for number in range(rounds):
            if number % 2:
                _, first, _ = speak(speaker, " ".join(SENTENCES))
                _, _, alone = speak(speaker, SENTENCES[0])
            else:
                _, _, alone = speak(speaker, SENTENCES[0])
                _, first, _ = speak(speaker, " ".join(SENTENCES))
            rows.append({"first_sound_s": first, "first_sentence_alone_s": alone, "ratio": first / alone})
        heard = [hear(listener, speak(speaker, sentence)[0]) for sentence in SENTENCES]
    found: dict[str, Any] = {
        "machine": asdict(this_machine()),
        "targets": TARGETS,
        "rows": rows,
        "heard": heard,
        "first_sound_ratio": median([row["ratio"] for row in rows]),
        "word_error_rate": float(jiwer.wer([*map(plain, SENTENCES)], [*map(plain, heard)])),
    }
    table = Table("figure", "value", "at most")
    for name, target in TARGETS.items():
        table.add_row(name, f"{found[name]:.3f}", f"{target:g}")
    console.print(table)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(found[name] <= target for name, target in TARGETS.items()) else 2


if __name__ == "__main__":
    sys.exit(main())
