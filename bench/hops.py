"""Which of our code a chat request passes: `python bench/hops.py`.

Three counts, on a tiny model: the files that are entered between the route and the first forward pass of a streamed
chat request, in the front end and in the worker; and those that the engine's thread enters for one decode step, without
guesses of tokens and with them. Beside the lines of each file stand the functions that are entered, and theirs.
"""

import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lib.processes import BENCH, ServerProcess
from run import demo_folder, tiny_folder

ROOT = BENCH.parent
SERVER = [sys.executable, "-m", "mlx_server.app"]
ROUTE = "app/routes/"
CHAT = {"messages": [{"role": "user", "content": "Count to ten."}], "max_tokens": 48, "temperature": 0, "stream": True}


class Function(NamedTuple):
    """One of ours that was entered; `lines` are those with code."""

    file: str
    name: str
    lines: int


class Passage(NamedTuple):
    """What a request entered until the first forward pass, in order, and in the most frequent kind of decode step."""

    entered: list[Function]
    step: list[Function]


def main() -> None:
    """Prints the three lists."""
    with tempfile.TemporaryDirectory() as scratch:
        model = tiny_folder(demo_folder(SERVER), Path(scratch, "tiny"))
        plain = passage(model, Path(scratch, "plain"), {"speculate": "off"})
        usual = passage(model, Path(scratch, "usual"), {})
    show("From the route to the first forward pass", usual.entered)
    show("One decode step without guesses", plain.step)
    show("One decode step as it usually is, with guesses", usual.step)


def passage(model: Path, out: Path, fields: dict[str, Any]) -> Passage:
    """What the second of two equal requests with these fields passes, on a server of its own."""
    out.mkdir()
    traced = ["env", f"PYTHONPATH={BENCH / 'hops_trace'}", f"HOPS_OUT={out}", *SERVER]
    with ServerProcess([*traced, "launch", "--no-standby", "--model-path", str(model)], out / "log") as server:
        ask(server.url, fields)
        pids = [server.pid, *(child.pid for child in server.children() if "mlx_server.workers" in child.cmdline())]
        for pid in pids:
            os.kill(pid, signal.SIGUSR2)
        ask(server.url, fields)
        time.sleep(1.0)
        front, worker = (json.loads((out / f"{pid}.json").read_text()) for pid in pids)
    entered = functions(front["entered"])
    first = next(at for at, function in enumerate(entered) if function.file.startswith(ROUTE))
    # Behind the first forward pass the request's first token is dealt with, behind the last one its end.
    steps = Counter(tuple(sorted(functions(step))) for step in worker["steps"][1:-1])
    return Passage([*entered[first:], *functions(worker["entered"])], list(steps.most_common(1)[0][0]))


def functions(entered: Iterable[list[Any]]) -> list[Function]:
    """Those that a process has written down."""
    return [Function(*each) for each in entered]


def ask(url: str, fields: dict[str, Any]) -> None:
    """One streamed chat request, read to its end."""
    body = json.dumps(CHAT | fields).encode()
    request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        answer.read()


def show(title: str, entered: list[Function]) -> None:
    """The files with their lines and what is entered of them, and the sums."""
    files = dict.fromkeys(function.file for function in entered)
    whole = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files}
    own = sum(function.lines for function in entered)
    print(f"{title}: {len(files)} files, {sum(whole.values())} lines; {len(entered)} functions, {own} lines")
    for file, lines in whole.items():
        inside = [function.lines for function in entered if function.file == file]
        print(f"  {lines:5} {file}: {len(inside)} functions, {sum(inside)} lines")


if __name__ == "__main__":
    main()
