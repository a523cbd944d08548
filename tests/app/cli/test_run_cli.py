"""`mlx-server run`, as a person and as a pipe use it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pyte
import pytest
from support.running.hub import LocalHub, repo_of, running
from support.running.servers import ROOT, SCRIPTED, Server
from support.tiny.folders import make_snapshot

COMMAND = (sys.executable, "-m", "mlx_server.app")


def piped(*arguments: object, said: str = "") -> subprocess.CompletedProcess[str]:
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.run(words, input=said, capture_output=True, text=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("is_piped", [True, False])
def test_what_is_in_no_utf_8_is_said_all_the_same(scripted: Server, is_piped: bool) -> None:
    said = b'{"tokens": 1, "text": "caf\xe9"}'
    command = [*COMMAND, "run", "parrot", "--system", b"\xe9", "--url", scripted.url, *([] if is_piped else [said])]
    done = subprocess.run(command, input=said if is_piped else b"", capture_output=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "caf\ufffd\n", b"")


def test_what_is_piped_and_no_text_is_refused_in_a_line() -> None:
    done = piped("run", "parrot", said="\x7fELF\0")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "Error: what is piped is no text: it has NUL bytes.\n"


class Person:
    """Somebody at a terminal."""

    def __init__(
        self,
        *arguments: object,
        term: str = "xterm",
        lines: int = 24,
        columns: int = 100,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.seen = ""
        self._here, there = pty.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._drawn = pyte.Stream(self._screen)
        termios.tcsetwinsize(there, (lines, columns))
        environment = {**os.environ, "TERM": term, **(env or {})}
        for size in ("LINES", "COLUMNS"):  # of the terminal that the tests themselves run in, if any
            environment.pop(size, None)
        # A shell's terminal is that of its session: what is typed there, and its end, come as signals.
        take_it = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        words = [sys.executable, "-c", take_it, *COMMAND, *map(str, arguments)]
        self.process = subprocess.Popen(
            words, stdin=there, stdout=there, stderr=there, cwd=ROOT, env=environment, start_new_session=True
        )
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
                read = os.read(self._here, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                return False
            self.seen += read
            self._drawn.feed(read)
        return True

    @property
    def shown(self) -> str:
        """What stands on the screen."""
        return "\n".join(self._screen.display)

    def types(self, text: str, end: str = "\n") -> None:
        self.seen = ""
        os.write(self._here, (text + end).encode())

    def hangs_up(self) -> None:
        os.close(self._here)


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
def test_another_model_of_the_same_last_name_is_not_asked(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    here, there = (shutil.copytree(tiny_model("llama"), tmp_path / name / "model") for name in ("a", "b"))
    server = launch("--model-path", here)
    assert piped("run", there, "hi", "--max-tokens", 2, "--url", server.url).returncode == 0
    assert server.get("/v1/models/model").json()["use_count"] == 0
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "model").symlink_to(here)
    for asked, told in ((tmp_path / "link" / "model", ""), ("author/model", f"model answers, at {server.root}.\n")):
        done = piped("run", asked, "hi", "--max-tokens", 2, "--url", server.url)
        assert (done.returncode, done.stderr) == (0, told)
    assert server.get("/v1/models/model").json()["use_count"] == 2


@pytest.mark.model
def test_start_of_ones_own_server_is_told(tiny_model: Callable[[str], Path]) -> None:
    person = Person("run", tiny_model("llama"), "--url", "http://127.0.0.1:9")
    person.sees("llama0: starting")
    person.sees("/help")
    person.types("/bye")
    assert person.ends() == 0


def test_ctrl_c_ends_the_answer_alone_and_a_closed_terminal_the_server_too() -> None:
    person = Person("run", "scripted", "--url", "http://127.0.0.1:9", env={"MLX_SERVER_MODEL_TYPE": "scripted"})
    person.sees("/help")
    person.types(json.dumps({"tokens": 10_000, "interval_s": 0.01}))
    person.sees("token token")
    person.types("\x03", end="")
    person.sees("stopped after")
    person.types(json.dumps({"tokens": 3}))
    person.sees("3 tokens")
    family = psutil.Process(person.process.pid).children(recursive=True)
    assert family
    person.hangs_up()
    assert person.process.wait(30) == 128 + signal.SIGHUP
    assert psutil.wait_procs(family, 10)[1] == []


def test_ctrl_c_at_the_prompt_takes_the_line_back(scripted: Server) -> None:
    person = Person("run", "parrot", "--url", scripted.url)
    person.sees("/help")
    person.sees("> ")
    person.types("half\x03", end="")
    person.sees("/bye or Ctrl-D ends.")
    person.types(json.dumps({"tokens": 2}))
    person.sees("2 tokens")
    person.types("/bye")
    assert person.ends() == 0


def test_answer_that_ctrl_c_ends_is_there_once(scripted: Server, tmp_path: Path) -> None:
    person = Person("run", "parrot", "--url", scripted.url, columns=80)
    person.sees("/help")
    # What is typed, and may stand there twice, is spelled otherwise.
    person.types('{"tokens": 10000, "interval_s": 0.05, "text": "\\u0073aid "}')
    person.sees("said said")
    person.types("\x03", end="")
    person.sees("stopped after")
    person.types(f"/save {tmp_path / 'talk.md'}")
    person.sees("Written to")
    assert person.shown.count("said") == (tmp_path / "talk.md").read_text().count("said")
    person.types("/bye")
    assert person.ends() == 0


@pytest.mark.model
def test_ctrl_c_leaves_no_bar_of_a_download_behind(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    slow = repo_of(tiny_model("llama"), "mlx-community/a-name-that-is-much-too-long-for-a-narrow-terminal", pause_s=5.0)
    with running(LocalHub(slow)) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path), "HF_TOKEN": ""}
        person = Person("pull", slow.id, columns=80, env=env)
        person.sees(" kB")
        assert "━" in person.shown
        person.types("\x03", end="")
        assert person.ends() == 130
    assert "Interrupted." in person.shown
    assert "━" not in person.shown


def test_answer_longer_than_the_terminal_is_there_once(scripted: Server) -> None:
    person = Person("run", "parrot", "--url", scripted.url, lines=10)
    person.sees("/help")
    person.types(json.dumps({"tokens": 40, "interval_s": 0.1, "text": "- line\n"}))
    person.sees("per second")
    screen = pyte.HistoryScreen(100, 10, history=1000)
    pyte.Stream(screen).feed(person.seen)
    above = ["".join(line[column].data for column in range(100)) for line in screen.history.top]
    assert sum("• line" in line for line in (*above, *screen.display)) == 40
    person.types("/bye")
    assert person.ends() == 0


def test_what_unicode_ends_lines_with_is_text_and_what_steers_a_terminal_is_left_out(scripted: Server) -> None:
    person = Person("run", "parrot", "--url", scripted.url)
    person.sees("/help")
    person.types(json.dumps({"tokens": 1, "text": "one\u2028two\x1b[2Jthree\x9bfour"}))
    person.sees("1 tokens")
    assert "two[2Jthreefour" in person.seen
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
def test_launch_from_the_hub_shows_no_steps_of_the_hubs_client(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    repo = repo_of(tiny_model("llama"), "mlx-community/tiny-llama")
    with running(LocalHub(repo)) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path), "HF_TOKEN": ""}
        person = Person("launch", repo.id, "--port", "0", env=env)
        person.sees("Ready")
        person.process.terminate()
        assert person.ends() == 0
    assert "|█" not in person.seen
    assert "HTTP Request" not in person.seen


@pytest.mark.model
def test_a_model_that_can_not_be_served_is_told_of(tmp_path: Path) -> None:
    done = piped("run", tmp_path, "hi", "--url", "http://127.0.0.1:9")
    assert done.returncode != 0
    assert "config.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_key_is_told_of(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--model-name", "parrot", "--api-key", "right")
    assert piped("run", "parrot", "hi", "--url", server.url, "--api-key", "right other").returncode == 0
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


@pytest.mark.model
def test_tables_of_models_name_them_whole_on_a_narrow_terminal(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    repo = repo_of(tiny_model("llama"), "mlx-community/Qwen2.5-Coder-14B-Instruct-4bit")
    make_snapshot(tmp_path, repo.id, "abc")
    with running(LocalHub(repo)) as hub:
        for command, *more in (("search", "Qwen"), ("list", "--data-dir", tmp_path / "data")):
            env = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path), "HF_TOKEN": ""}
            person = Person(command, *more, columns=80, env=env)
            assert person.ends() == 0
            assert re.search(rf"{repo.id} +lm ", person.shown), person.shown
