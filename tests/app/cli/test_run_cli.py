"""`mlx-server run`, as a person and as a pipe use it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest
from support.running.hub import LocalHub, repo_of, running
from support.running.servers import ROOT, SCRIPTED, Server

COMMAND = (sys.executable, "-m", "mlx_server.app")


def piped(*arguments: object, said: str = "") -> subprocess.CompletedProcess[str]:
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.run(words, input=said, capture_output=True, text=True, cwd=ROOT, timeout=120)


class Person:
    """Somebody at a terminal."""

    def __init__(self, *arguments: object, term: str = "xterm", env: Mapping[str, str] | None = None) -> None:
        self.seen = ""
        self._here, there = pty.openpty()
        environment = {**os.environ, "TERM": term, "COLUMNS": "100", **(env or {})}
        words = [*COMMAND, *map(str, arguments)]
        self.process = subprocess.Popen(words, stdin=there, stdout=there, stderr=there, cwd=ROOT, env=environment)
        os.close(there)

    def sees(self, text: str, within_s: float = 60.0) -> None:
        ends = time.monotonic() + within_s
        while text not in self.seen:
            assert time.monotonic() < ends, self.seen
            assert self._reads() or text in self.seen, self.seen

    def ends(self, within_s: float = 60.0) -> int:
        """Its exit code. It waits for its terminal to have shown all, so that is read meanwhile."""
        ends = time.monotonic() + within_s
        while self.process.poll() is None:
            assert time.monotonic() < ends, self.seen
            self._reads()
        return self.process.returncode

    def _reads(self) -> bool:
        """What it says next, if anything; whether it may say more."""
        if select.select([self._here], [], [], 0.2)[0]:
            try:
                self.seen += os.read(self._here, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                return False
        return True

    def types(self, text: str) -> None:
        self.seen = ""
        os.write(self._here, text.encode() + b"\n")


@pytest.fixture
def scripted(launch: Callable[..., Server]) -> Server:
    return launch(*SCRIPTED, "--model-name", "parrot")


def test_a_prompt_and_a_pipe_make_one_message_and_words_alone_come_out(scripted: Server) -> None:
    done = piped("run", "parrot", "Say", "this.", "--url", scripted.url, said="and that")
    assert done.returncode == 0, done.stderr
    asked = scripted.chat("Say this.\n\nand that").json()["choices"][0]["message"]["content"]
    assert done.stdout == f"{asked}\n"
    assert done.stderr == ""


def test_a_conversation(scripted: Server, tmp_path: Path) -> None:
    person = Person("run", "parrot", "--url", scripted.url)
    person.sees("/help")
    person.types("/help")
    person.sees("Ctrl-D")
    person.types("/system Be brief.")
    person.sees("The model is told.")
    person.types("Good morning")
    person.sees("per second")
    person.types("/image /no/such/picture.png")
    person.sees("there is no file")
    person.types(f"/save {tmp_path / 'talk.md'}")
    person.sees("Written to")
    person.types("/bye")
    assert person.ends() == 0
    saved = (tmp_path / "talk.md").read_text()
    assert saved.startswith("## system\n\nBe brief.\n\n## user\n\nGood morning\n\n## assistant\n\n")


@pytest.mark.model
def test_a_server_of_ones_own_is_started_and_ended(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_model("llama")
    done = piped("run", folder, "hi", "--max-tokens", 5, "--url", "http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]
    assert left == []


@pytest.mark.model
def test_start_of_ones_own_server_is_told(tiny_model: Callable[[str], Path]) -> None:
    person = Person("run", tiny_model("llama"), "--url", "http://127.0.0.1:9")
    person.sees("llama0: starting")
    person.sees("/help")
    person.types("/bye")
    assert person.ends() == 0


@pytest.mark.model
def test_download_of_ones_own_server_is_a_bar_that_moves(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    slow = repo_of(tiny_model("llama"), "mlx-community/tiny-llama", pause_s=1.0)
    with running(LocalHub(slow)) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path), "HF_TOKEN": ""}
        person = Person("run", slow.id, "--url", "http://127.0.0.1:9", env=env)
        person.sees("/help")
        shares = set(re.findall(r"(\d+) kB of \d+ kB", person.seen))
        assert len(shares) > 5, person.seen
        assert "\x1b[2K" in person.seen, "it leaves nothing behind"
        person.types("/bye")
        assert person.ends() == 0


@pytest.mark.model
def test_a_model_that_can_not_be_served_is_told_of(tmp_path: Path) -> None:
    done = piped("run", tmp_path, "hi", "--url", "http://127.0.0.1:9")
    assert done.returncode != 0
    assert "config.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_key_is_told_of(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--model-name", "parrot", "--api-key", "right")
    done = piped("run", "parrot", "hi", "--url", server.url, "--api-key", "wrong")
    assert done.returncode != 0
    assert "needs another key" in done.stderr


@pytest.mark.model
def test_picture_that_is_refused_is_not_shown_again(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path]
) -> None:
    server = launch("--model-path", tiny_model("llama"), "--model-name", "blind")
    person = Person("run", "blind", "--max-tokens", "3", "--url", server.url)
    person.types(f"/image {ROOT / 'examples' / 'data' / 'red_circle.png'}")
    person.sees("with the next message")
    person.types("What is this?")
    person.sees("Vision requests are not supported")
    person.types("hello")
    person.sees("per second")
    person.types("/bye")
    assert person.ends() == 0


@pytest.mark.model
def test_terminal_that_can_not_redraw_is_told_in_lines(tiny_model: Callable[[str], Path]) -> None:
    person = Person("launch", tiny_model("llama"), "--port", "0", term="dumb")
    person.sees(": importing\r\n")
    person.sees("Ready")
    person.process.terminate()
    assert person.ends() == 0
    assert "\x1b[" not in person.seen


def test_what_other_programs_call_at_the_top_is_there(tmp_path: Path) -> None:
    listed = piped("list", "--no-hub", "--data-dir", tmp_path, "--json")
    assert (listed.returncode, listed.stdout.strip()) == (0, "[]")
    for command in ("pull", "rm", "show", "search"):
        assert f"mlx_server.app {command}" in piped(command, "--help").stdout


def test_launch_takes_a_model_without_a_flag(tmp_path: Path) -> None:
    done = piped("launch", tmp_path / "nothing")
    assert done.returncode == 3
    assert "nothing" in done.stderr
