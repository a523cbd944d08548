"""Several workers with a real model: a conversation goes on where it is known, unless that worker is full or gone."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from support.running.metrics import value
from support.running.servers import Server


class Talk:
    """A conversation that grows, by the same words whatever a random model says."""

    def __init__(self, server: Server, beginning: str) -> None:
        self._server = server
        self._messages: list[dict[str, Any]] = [{"role": "user", "content": beginning}]

    def say(self, tokens: int = 8) -> int:
        """The next answer, of so many tokens; how many tokens of its prompt were known."""
        body = {"messages": self._messages, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
        answer = self._server.post("/v1/chat/completions", body).json()
        self._messages.append({"role": "assistant", "content": "Aye."})
        self._messages.append({"role": "user", "content": "And?"})
        return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])

    @contextmanager
    def saying(self) -> Iterator[None]:
        """A long answer is being written meanwhile."""
        running = self._server.stats()["running_requests"]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.say, 1000)
            self._server.wait_stats(running_requests=running + 1)
            yield
            assert not answer.done(), "the answer was not long enough"
            answer.result()


def test_conversations_go_on_where_they_are_known(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path]
) -> None:
    server = launch("--model-path", tiny_model("llama"), "--replicas", 2, "--max-concurrency", 1)
    server.wait_until(lambda: server.stats()["workers"] == {"ready": 2})
    first, second = (Talk(server, f"{name} was a sailor of whom many tales are told. " * 2) for name in ("Ann", "Bob"))
    with first.saying():
        assert second.say() == 0
    for _ in range(2):
        assert second.say() > 40
        assert first.say() > 40

    assert value(server, "placements_total", placement="spilled") == 0
    with second.saying():
        assert second.say() == 0, "its worker is full, and what it knows is read sooner elsewhere"
    assert value(server, "placements_total", placement="spilled") == 1

    knowing, _ = server.worker_pids()
    psutil.Process(knowing).send_signal(signal.SIGKILL)
    server.wait_until(lambda: server.stats()["worker_restarts"] == 1)
    assert first.say() == 0
    assert first.say() > 40
