"""`mlx-server top`: as scripts use it, and in a terminal of its own."""

import contextlib
import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from select import select

import pytest
from rich.console import Console
from support.running.raw import RawClient
from support.running.servers import ROOT, SCRIPTED, Server, chat_body, wait_for

from mlx_server.app.terminal.screen import MODEL_COLUMNS, plot, state_of, table_of, times
from mlx_server.schemas.live import LiveModel, LoadProgress, Percentiles

TOP = (sys.executable, "-m", "mlx_server.app", "top")
LONG = {"first_token_s": 60}
ENDLESS = {"tokens": 4000, "interval_s": 0.02}


@pytest.fixture
def server(launch: Callable[..., Server]) -> Server:
    return launch(*SCRIPTED, "--max-concurrency", 1)


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TOP, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60)


class Terminal:
    """A command in a terminal of 30 lines and 120 columns."""

    def __init__(self, *arguments: str) -> None:
        self._own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [*TOP, *arguments], stdin=other, stdout=other, stderr=other, cwd=ROOT, env=env, start_new_session=True
        )
        os.close(other)
        self.seen = ""

    def shows(self, text: str) -> bool:
        """Whether it has drawn a text by now."""
        with contextlib.suppress(OSError):  # how Linux says that the other side is closed
            while select([self._own], [], [], 0.05)[0]:
                self.seen += os.read(self._own, 1 << 16).decode(errors="replace")
        return text in self.seen

    def ends(self) -> int:
        """Its exit code. It waits for its terminal to have shown all, so that is read meanwhile."""
        wait_for(lambda: self.shows("") and self.process.poll() is not None, what=lambda: self.seen)
        return int(self.process.returncode)

    def press(self, key: str) -> None:
        os.write(self._own, key.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._own)


@pytest.fixture
def terminal(server: Server) -> Iterator[Terminal]:
    terminal = Terminal("--url", server.root)
    yield terminal
    terminal.close()


@pytest.mark.parametrize(("width", "columns"), [(40, 4), (80, 10)])
def test_narrow_terminal_has_the_columns_that_say_most(width: int, columns: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    table = table_of(MODEL_COLUMNS, [("SmolLM2-135M", "loaded", *"0123", "", "", "", "0")], width)
    assert len(table.columns) == columns
    with console.capture() as drawn:
        console.print(table)
    assert "SmolLM2-135M" in drawn.get()
    assert "loaded" in drawn.get()


def test_scripts_get_a_line_of_json(server: Server) -> None:
    with RawClient(server, chat_body(LONG)), RawClient(server, chat_body("hi")):
        server.wait_stats(active_requests=2)
        done = top("--url", server.root, "--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    state = json.loads(done.stdout)
    assert [request["state"] for request in state["requests"]] == ["prefill", "queued"]
    assert state["models"][0]["tokens_per_s"] == 0


def test_without_a_terminal_it_is_printed_once(server: Server) -> None:
    with RawClient(server, chat_body(LONG)):
        server.wait_stats(running_requests=1)
        done = top("--url", server.root)
    assert done.returncode == 0
    assert server.root in done.stdout
    assert "1 running  0 waiting" in done.stdout
    assert "prefill" in done.stdout
    assert "\x1b" not in done.stdout


def test_terminal_is_drawn_anew_and_q_leaves_it_as_it_was(server: Server, terminal: Terminal) -> None:
    wait_for(lambda: terminal.shows("0 running"), what=lambda: terminal.seen)
    with RawClient(server, chat_body(ENDLESS, stream=True)), RawClient(server, chat_body("hi")):
        wait_for(lambda: terminal.shows("queued") and terminal.shows("1 running"), what=lambda: terminal.seen)
        terminal.press("x")
        assert terminal.process.poll() is None
        terminal.press("q")
        assert terminal.ends() == 0
    terminal.shows("")
    assert terminal.seen.count("\x1b[?1049h") == terminal.seen.count("\x1b[?1049l") == 1
    assert "Traceback" not in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_server_that_stops_is_told(server: Server, terminal: Terminal, number: signal.Signals) -> None:
    wait_for(lambda: terminal.shows("0 running"), what=lambda: terminal.seen)
    server.stop(number)
    wait_for(lambda: terminal.shows("has stopped"), what=lambda: terminal.seen)
    assert terminal.ends() == 5


def test_server_that_is_not_there_is_one_line() -> None:
    done = top("--url", "http://127.0.0.1:9", "--once")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("Error: no server answers at http://127.0.0.1:9")


def test_key_that_is_missing_is_told(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--api-key", "secret", wait=False)
    server.wait_listening()
    done = top("--url", server.root, "--once")
    assert (done.returncode, "needs a key" in done.stderr) == (5, True)
    assert top("--url", server.root, "--once", "--api-key", "secret").returncode == 0


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], ""), ([0, 0], "▁▁"), ([0, 5, 10], "▁▅█"), ([3], "█")],
    ids=["none", "zeros", "some", "one"],
)
def test_speed_is_plotted_from_its_highest(values: list[float], bars: str) -> None:
    assert plot(values) == bars


def test_times_are_in_milliseconds() -> None:
    assert times(None) == "-"
    assert times(Percentiles(3, 0.0042, 0.1234, 0.2)) == "4.2/123 ms"


@pytest.mark.parametrize(
    ("loading", "shown"),
    [
        (None, "loading"),
        (LoadProgress("downloading", 45, 100), "downloading 45%"),
        (LoadProgress("importing", 0, 0), "importing"),
    ],
)
def test_start_of_a_model_is_told(loading: LoadProgress | None, shown: str) -> None:
    model = LiveModel(
        "m", "lm", "loading", None, {}, 0, [], 0, 0, 0, 0, 0, None, None, None, None, 0, 0, None, loading=loading
    )
    assert state_of(model) == shown
