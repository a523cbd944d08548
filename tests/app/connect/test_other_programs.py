"""What is asked of a program that is no mlx-server, and with keys of any letters."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mlx_server.app.connect.batches import BatchClient
from mlx_server.app.connect.chat import Chat
from mlx_server.app.connect.live_states import live_states
from mlx_server.app.connect.running_server import ServerProblem, ask

KEY = "“clé: ключ”"


class OtherProgram(ThreadingHTTPServer):
    """Answers everything with a page, and keeps the keys that came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.keys: list[str] = []
        self.root = f"http://127.0.0.1:{self.server_address[1]}"


class Page(BaseHTTPRequestHandler):
    """The page."""

    def do_GET(self) -> None:
        assert isinstance(self.server, OtherProgram)
        self.server.keys.append(self.headers.get("Authorization", "").encode("latin-1").decode())
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def do_POST(self) -> None:
        self.do_GET()

    def log_request(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def other_program() -> Iterator[OtherProgram]:
    with OtherProgram() as program:
        Thread(target=program.serve_forever, args=(0.01,), daemon=True).start()
        yield program
        program.shutdown()


ASKED: dict[str, Callable[[BatchClient, str], object]] = {
    "newest": lambda client, _: client.newest(3),
    "get": lambda client, _: client.get("x"),
    "cancel": lambda client, _: client.cancel("x"),
    "submit": lambda client, _: client.submit(Path(__file__), "/v1/completions", "24h"),
    "live": lambda _, root: next(live_states(root, KEY, 10.0)),
    "status": lambda _, root: ask(root, KEY, 10.0, datetime.now(UTC)),
}


@pytest.mark.parametrize("asked", ASKED)
def test_page_of_another_program_is_told_in_a_line(other_program: OtherProgram, asked: str) -> None:
    client = BatchClient(other_program.root, KEY)
    with pytest.raises(ServerProblem, match=r"answered something else: is it an mlx-server\?$") as told:
        ASKED[asked](client, other_program.root)
    client.close()
    assert "\n" not in str(told.value)
    assert other_program.keys == [f"Bearer {KEY}"]


def test_key_of_any_letters_is_sent_with_a_chat(other_program: OtherProgram) -> None:
    list(Chat(other_program.root, "m", KEY).say("hi"))
    assert other_program.keys == [f"Bearer {KEY}"]
