"""The server that faults are done to, its clients, and what can be seen of both from outside."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from asking import HUNG_S, OK, Row, ask, chat
from lib.processes import ServerProcess

CLIENTS = 8
TOKENS = 48
PROMPTS = tuple(f"Count from {number} on, and say what you see." for number in range(12))
MODEL, NEIGHBOUR = "tiny", "neighbour"
GRAMMAR = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}}
INJECT = Path(__file__).parent / "inject"
SETTLE_S = 30.0


class World:
    """A server with two models, and what it must come back to after each fault. In a `with` block."""

    def __init__(self, model: Path, scratch: Path, *more: str, python: str = sys.executable) -> None:
        self.scratch = scratch
        self.order = scratch / "order.json"
        self.files = scratch / "tmp"
        self.disk = scratch / "disk"
        for folder in (self.files, self.disk):
            folder.mkdir(parents=True, exist_ok=True)
        given = {"PYTHONPATH": INJECT, "FAULTS_ORDER": self.order, "TMPDIR": self.files}
        env = ["env", *(f"{name}={value}" for name, value in given.items())]
        models = [f"--model={name}={model}" for name in (MODEL, NEIGHBOUR)]
        kept = [f"--{name}-dir={self.disk / name}" for name in ("data", "cache", "prompt-cache")]
        launch = [python, "-m", "mlx_server.app", "launch", *models, *kept, "--max-concurrency", "16", *more]
        self.server = ServerProcess([*env, *launch], scratch / "server.log")
        self.references: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.server.__enter__()
        self.wait(lambda: all(self.pids(name) for name in (MODEL, NEIGHBOUR)))
        for prompt in PROMPTS:
            for name in (MODEL, NEIGHBOUR):
                row = asyncio.run(ask(self.url, chat(name, prompt, max_tokens=TOKENS), None))
                assert row.outcome == OK, row
                assert self.references.setdefault(prompt, row.text) == row.text
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.server.stop()

    @property
    def url(self) -> str:
        return self.server.url.removesuffix("/v1")

    def get(self, path: str) -> Any:
        """A JSON document, whatever the status."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=HUNG_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.url + path, timeout=HUNG_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def pids(self, name: str = MODEL) -> list[int]:
        """The worker processes of a model."""
        held = self.get("/v1/manager/status")["loaded_models"].get(name)
        return [] if held is None else [int(pid) for pid in held["pids"]]

    def state(self, name: str = MODEL) -> dict[str, int]:
        """How many of its workers are in which state."""
        found: dict[str, int] = self.get("/v1/queue/stats")["models"][name]["workers"]
        return found

    def worker(self) -> psutil.Process:
        """The model's worker, once there is one."""
        self.wait(self.pids)
        return psutil.Process(self.pids()[0])

    def inject(self, at: str, *, times: int = 1, only: str = "", cut: bool = False) -> None:
        """Have the worker break something in itself."""
        self.order.write_text(json.dumps({"at": at, "times": times, "only": only, "cut": cut}))
        self.worker().send_signal(signal.SIGUSR1)

    def wait(self, true: Callable[[], Any], limit_s: float = HUNG_S) -> None:
        """Poll until `true()` says so. Raises TimeoutError."""
        deadline = time.monotonic() + limit_s
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.05)

    async def settle(self) -> None:
        """Wait until all workers take work, and a standby waits for the next fault."""
        await asyncio.to_thread(self._settled)
        # The process that checks clients' grammars stays from a worker's first one on.
        await ask(self.url, chat(MODEL, PROMPTS[0], max_tokens=1, **GRAMMAR), None)

    def _settled(self) -> None:
        self.wait(lambda: all(self.state(name) == {"ready": 1} for name in (MODEL, NEIGHBOUR)))
        self.wait(lambda: len(self.workers()) == 1 + len((MODEL, NEIGHBOUR)))

    def workers(self) -> list[psutil.Process]:
        """All worker processes, the standby included."""
        found = psutil.Process(self.server.pid).children()
        return [child for child in found if child.is_running() and "mlx_server.workers" in child.cmdline()]

    async def answers(self) -> None:
        """Wait until a request is answered well."""
        while (await ask(self.url, chat(MODEL, PROMPTS[0], max_tokens=1), None)).outcome != OK:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    def standing(self) -> dict[str, int]:
        """What must not grow."""
        front = psutil.Process(self.server.pid)
        children = front.children(recursive=True)
        stats = self.get("/v1/queue/stats")["queue_stats"]
        return {
            "descriptors": front.num_fds(),
            "zombies": sum(child.status() == psutil.STATUS_ZOMBIE for child in children),
            "processes": len(children),
            "slots": stats["active_requests"] + stats["rows_used"],
            "files": sum(len(names) for _, _, names in os.walk(self.files)),
        }

    def leaked(self, before: dict[str, int]) -> dict[str, int]:
        """What is more than it was, once all has had time to settle."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            now = self.standing()
            more = {name: now[name] - count for name, count in before.items() if now[name] > count}
            if not more or time.monotonic() > deadline:
                return more
            time.sleep(0.2)


class Load:
    """Clients that ask one request after the other, in an `async with` block; those that live at its end are awaited.

    The neighbour has one of its own.
    """

    def __init__(self, world: World, seed: int, clients: int = CLIENTS) -> None:
        self._world = world
        self._seed = seed
        self._clients = clients
        self._stopping = False
        self.rows: list[Row] = []

    async def __aenter__(self) -> Self:
        names = [MODEL] * self._clients + [NEIGHBOUR]
        self._tasks = [asyncio.create_task(self._client(name, number)) for number, name in enumerate(names)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def outcomes(self, model: str = MODEL) -> Counter[str]:
        """How many ended how so far."""
        return Counter(row.outcome for row in self.rows if row.model == model)

    async def until_ok(self, more: int) -> None:
        """Wait until so many more have ended well."""
        wanted = self.outcomes()[OK] + more
        while self.outcomes()[OK] < wanted:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)

    async def _client(self, model: str, number: int) -> None:
        choose = random.Random(self._seed * 100 + number)
        while not self._stopping:
            prompt, stream = choose.choice(PROMPTS), choose.random() < 0.5
            body = chat(model, prompt, stream=stream, max_tokens=TOKENS)
            row = await ask(self._world.url, body, self._world.references[prompt])
            self.rows.append(row)
            if row.outcome != OK:
                await asyncio.sleep(0.2)
