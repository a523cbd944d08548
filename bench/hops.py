"""Which of our files a chat request passes: `python bench/hops.py`.

Two counts, on a tiny model: the files that are entered between the route and the first forward pass of a streamed chat
request, in the front end and in the worker, with the lines that they have; and those that the engine's thread enters
for one decode step.
"""

import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from lib.processes import BENCH, ServerProcess
from run import demo_folder, tiny_folder

ROOT = BENCH.parent
SERVER = [sys.executable, "-m", "mlx_server.app"]
ROUTE = "app/routes/"
CHAT = {"messages": [{"role": "user", "content": "Count to ten."}], "max_tokens": 12, "temperature": 0, "stream": True}


def main() -> None:
    """Prints both lists."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "hops")
        out.mkdir()
        model = tiny_folder(demo_folder(SERVER), Path(scratch, "tiny"))
        traced = ["env", f"PYTHONPATH={BENCH / 'hops_trace'}", f"HOPS_OUT={out}", *SERVER]
        with ServerProcess(
            [*traced, "launch", "--no-standby", "--model-path", str(model)], Path(scratch, "log")
        ) as server:
            ask(server.url)
            pids = [server.pid, *(child.pid for child in server.children() if "mlx_server.workers" in child.cmdline())]
            for pid in pids:
                os.kill(pid, signal.SIGUSR2)
            ask(server.url)
            time.sleep(1.0)
            front, worker = (json.loads((out / f"{pid}.json").read_text()) for pid in pids)
    entered = front["entered"]
    first = next(at for at, file in enumerate(entered) if file.startswith(ROUTE))
    passed = list(dict.fromkeys(entered[first:] + worker["entered"]))
    show("From the route to the first forward pass", passed)
    steps = [frozenset(step) for step in worker["steps"][4:-2]]
    show("One decode step", sorted(max(set(steps), key=steps.count)))


def ask(url: str) -> None:
    """One streamed chat request, read to its end."""
    body = json.dumps(CHAT).encode()
    request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        answer.read()


def show(title: str, files: list[str]) -> None:
    """A list with the lines of each file, and the sums."""
    lines = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files}
    print(f"{title}: {len(files)} files, {sum(lines.values())} lines")
    for file, count in lines.items():
        print(f"  {count:5} {file}")


if __name__ == "__main__":
    main()
