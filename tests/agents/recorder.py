"""Stands between a client and a server and keeps what is asked, with the status that it got."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

CHUNK_BYTES = 1 << 16
NOT_PASSED_ON = ("host", "connection", "content-length", "transfer-encoding", "accept-encoding")


@dataclass(frozen=True)
class Exchange:
    """One request with a JSON body; `ignored` is what the server's header of that name says."""

    path: str
    status: int
    body: dict[str, Any]
    ignored: str


class Recorder:
    """`url` takes the server's place; `exchanges` grows, in the order of the answers' heads."""

    def __init__(self, server: str) -> None:
        self.exchanges: list[Exchange] = []
        self._http = httpx.Client(base_url=server, timeout=600)
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                recorder._pass_on(self, b"")

            def do_POST(self) -> None:
                recorder._pass_on(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def log_message(self, *arguments: object) -> None:
                """Nothing is said."""

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._listener.server_port}"
        self._thread = threading.Thread(target=self._listener.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown()
        self._listener.server_close()
        self._http.close()

    def _pass_on(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in NOT_PASSED_ON}
        with self._http.stream(handler.command, handler.path, headers=headers, content=body) as answer:
            if body:
                ignored = answer.headers.get("X-Ignored-Fields", "")
                self.exchanges.append(Exchange(handler.path, answer.status_code, json.loads(body), ignored))
            handler.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in NOT_PASSED_ON:
                    handler.send_header(name, value)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.close_connection = True
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for chunk in answer.iter_bytes():
                    handler.wfile.write(chunk)
                    handler.wfile.flush()


@contextlib.contextmanager
def recording(server: str) -> Iterator[Recorder]:
    """A recorder in front of a server."""
    recorder = Recorder(server)
    try:
        yield recorder
    finally:
        recorder.close()
