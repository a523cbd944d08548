"""What the server makes of recordings: `python bench/media/hearing.py [--rounds 3] [--only words,clients,memory]`.

words: 50 sentences spoken by espeak-ng, written down by this server and by mlx-audio's own `generate` with the same
weights, in float32, with the same BLAS. The difference of their word error rates, at most 0.01.
clients: seconds of recordings that four clients at once have written down in a second, over HTTP, of this server, of
`mlx_vlm.server`'s endpoint (mlx-audio in float16, as it has it) and, to tell the two causes apart, of a bare loop over
mlx-audio's `generate` in float32. Servers take turns; who is first changes. At least 1.5 times mlx_vlm.server's.
memory: the most resident memory of the server's processes, sampled five times a second, while an hour (115 MB, uploaded
whole) is written down, over a minute: at most 100 MB more. A sentence every 23 seconds, silence between, so that all
windows of the hour are heard. It takes minutes.

Raw rows go to bench/results/hearing.json, beside those of parts that ran before. Exit code 0 when all targets were met,
else 2.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import jiwer
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.hardware import this_machine
from lib.peer_servers import OURS, Command, Peer, Running, ours, with_blas
from lib.processes import BENCH
from rich.console import Console
from rich.table import Table

from mlx_server.app.config.settings import default_cache_dir
from mlx_server.app.demo.demo import ensure_demo_model
from mlx_server.app.demo.models import SOURCES
from mlx_server.workers.parent.environment import child_environment

RESULTS = BENCH / "results" / "hearing.json"
PARTS = ("words", "clients", "memory")
SPEAK = BENCH.parent / "tests" / "support" / "voices" / "espeak.py"
SAYS = BENCH.parent / "tests" / "support" / "running" / "mlx_audio_says.py"
RATE = 16_000
CLIENTS = 4
SENTENCES = 50
TARGETS = {"word_error_difference": 0.01, "over_mlx_vlm": 1.5, "more_memory_mb": 100.0}
WHO = ("my sister", "the teacher", "our neighbour", "a young doctor", "the old man", "his brother", "the children")
DOES = ("opened", "painted", "forgot", "repaired", "looked at", "talked about", "was waiting near", "lived behind")
WHAT = ("the window", "the station", "a small house", "the library", "the garden", "the bridge", "a green door")
WHEN = ("yesterday", "in the morning", "before the rain came", "last summer", "while the sun was shining", "at night")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence and its WAV file."""

    text: str
    path: Path
    seconds: float


def sentences(count: int, seed: int = 0) -> list[str]:
    """Distinct ones of 8 to 14 words."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[f"{rng.choice(WHO).capitalize()} {rng.choice(DOES)} {rng.choice(WHAT)} {rng.choice(WHEN)}."] = None
    return list(found)


def speak(texts: Sequence[str], folder: Path) -> list[Spoken]:
    """Each as a file of 16-bit samples at 16 kHz."""
    import numpy as np
    from scipy.signal import resample_poly

    made = []
    for number, text in enumerate(texts):
        said = subprocess.run([sys.executable, SPEAK, text, "en-us", "150"], capture_output=True, check=True)
        sound = np.frombuffer(said.stdout, "<i2").astype(np.float32) / 32768
        sound = np.clip(resample_poly(sound, RATE, int(said.stderr)), -1, 1)
        made.append(write(folder / f"{number}.wav", (sound * 32767).astype("<i2").tobytes(), text))
    return made


def write(path: Path, samples: bytes, text: str = "") -> Spoken:
    """A WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples)
    return Spoken(text, path, len(samples) / 2 / RATE)


def transcribe(peer: Peer, path: Path, timeout_s: float = 600) -> str:
    """What a server writes down."""
    with path.open("rb") as file:
        answer = httpx.post(
            f"{peer.url}/audio/transcriptions",
            data={"model": peer.model or "whisper", "language": "en"},
            files={"file": (path.name, file)},
            timeout=timeout_s,
        )
    answer.raise_for_status()
    return str(answer.json()["text"])


def at_once(write_down: Callable[[Path], str], spoken: Sequence[Spoken], clients: int) -> tuple[list[str], float]:
    """All texts, and the seconds of sound that were written down in a second."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        texts = list(pool.map(write_down, [one.path for one in spoken]))
    return texts, sum(one.seconds for one in spoken) / (time.perf_counter() - began)


def bare(folder: Path, spoken: Sequence[Spoken]) -> tuple[list[str], float]:
    """The same of a loop over mlx-audio's `generate`, without the time that it takes to load."""
    command = [sys.executable, str(SAYS), "--plain", str(folder), *(str(one.path) for one in spoken)]
    done = subprocess.run(command, capture_output=True, check=True, env=child_environment())
    *lines, last = done.stdout.splitlines()
    return [json.loads(line)["text"] for line in lines], sum(one.seconds for one in spoken) / json.loads(last)[
        "seconds"
    ]


def error_rate(said: Sequence[Spoken], heard: Sequence[str]) -> float:
    """Words wrong, as a part of those that were said, without case and punctuation."""

    def plain(text: str) -> str:
        return " ".join("".join(mark if mark.isalnum() else " " for mark in text.lower()).split())

    return float(jiwer.wer([plain(one.text) for one in said], [plain(text) for text in heard]))


def resident_mb(url: str) -> float:
    """Of the process that listens there and all that it started."""
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    [front] = {
        one.pid for one in psutil.net_connections("tcp") if one.laddr.port == port and one.status == psutil.CONN_LISTEN
    }
    process = psutil.Process(front)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1e6


def peak_mb(peer: Peer, path: Path) -> tuple[float, float]:
    """The most that the server holds while a recording is written down, and how many seconds that takes."""
    seen, over = [resident_mb(peer.url)], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            seen.append(resident_mb(peer.url))

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.perf_counter()
    try:
        transcribe(peer, path, timeout_s=3600)
    finally:
        over.set()
        watching.join()
    return max(seen), time.perf_counter() - began


def measure_words(peer: Peer, folder: Path, spoken: Sequence[Spoken]) -> dict[str, Any]:
    """Both word error rates."""
    heard, _ = at_once(lambda path: transcribe(peer, path), spoken, CLIENTS)
    theirs, _ = bare(folder, spoken)
    found = {"ours": error_rate(spoken, heard), "mlx_audio": error_rate(spoken, theirs)}
    different = sum(a.strip() != b.strip() for a, b in zip(heard, theirs, strict=True))
    return {**found, "word_error_difference": found["ours"] - found["mlx_audio"], "different_texts": different}


def measure_clients(peers: Sequence[Peer], folder: Path, spoken: Sequence[Spoken], rounds: int) -> dict[str, Any]:
    """Rates in turns."""
    rows: list[dict[str, float]] = []
    for peer in peers:  # a first one loads what is not there yet
        transcribe(peer, spoken[0].path)
    for number in range(rounds):
        some = spoken[number * 8 : number * 8 + 8]
        order = list(peers) if number % 2 else list(reversed(peers))
        rates = {peer.name: at_once(lambda path, of=peer: transcribe(of, path), some, CLIENTS)[1] for peer in order}
        rates["bare float32"] = bare(folder, some)[1]
        rows.append(rates)
    ratios = {name: median([row[OURS] / row[name] for row in rows]) for name in rows[0] if name != OURS}
    return {"rows": rows, "ours_over": ratios, "over_mlx_vlm": ratios["mlx_vlm.server"]}


def measure_memory(peer: Peer, scratch: Path, spoken: Sequence[Spoken]) -> dict[str, Any]:
    """A minute, an hour: sentences with silence between them."""
    pause = bytes(2 * 20 * RATE)
    minute = b"".join(one.path.read_bytes()[44:] + pause for one in spoken)[: 2 * 60 * RATE]
    short, long = write(scratch / "minute.wav", minute), write(scratch / "hour.wav", minute * 60)
    minute_mb, minute_s = peak_mb(peer, short.path)
    hour_mb, hour_s = peak_mb(peer, long.path)
    rows = {"minute_mb": minute_mb, "minute_took_s": minute_s, "hour_mb": hour_mb, "hour_took_s": hour_s}
    return {**rows, "more_memory_mb": hour_mb - minute_mb}


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--model", default="whisper-tiny", choices=[name for name in SOURCES if "whisper" in name])
    chosen = parser.parse_args()
    console = Console()
    folder = ensure_demo_model(default_cache_dir(), console, source=SOURCES[chosen.model])
    parts = chosen.only.split(",")
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found |= {"machine": asdict(this_machine()), "model": chosen.model, "targets": TARGETS}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        spoken = speak(sentences(SENTENCES), scratch)
        theirs = Command(
            "mlx_vlm.server",
            with_blas(("env", "HF_HUB_OFFLINE=1", sys.executable, "-m", "mlx_vlm.server")),
            str(folder),
            "/health",
        )
        commands = [ours(folder, CLIENTS), *([theirs] if "clients" in parts else [])]
        with Running(commands, scratch) as running:
            our = running.peers[0]
            if "words" in parts:
                found["words"] = measure_words(our, folder, spoken)
            if "clients" in parts:
                found["clients"] = measure_clients(running.peers, folder, spoken, chosen.rounds)
            if "memory" in parts:
                found["memory"] = measure_memory(our, scratch, spoken)
    return report(console, found)


def report(console: Console, found: dict[str, Any]) -> int:
    """The table, the file, and the exit code."""
    table = Table("figure", "value", "target")
    met = True
    for part in (found[name] for name in PARTS if name in found):
        for key, target in TARGETS.items():
            if key in part:
                good = part[key] >= target if key == "over_mlx_vlm" else part[key] <= target
                met &= good
                table.add_row(key, f"{part[key]:.3f}", f"{target:g}{'' if good else ' MISSED'}")
    console.print(table)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    console.print(f"Rows: {RESULTS}")
    return 0 if met else 2


if __name__ == "__main__":
    sys.exit(main())
