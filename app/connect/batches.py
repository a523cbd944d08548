"""Batches of a running server, as a client of its own asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec

from mlx_server.app.connect.chat import CONNECT_S, problem_of
from mlx_server.app.connect.running_server import NoServer, ServerProblem, another_program, key_headers

ANSWER_S = 600.0
"""Seconds that a file may take to be sent or to come."""

T = TypeVar("T")


class NotNow(ServerProblem):
    """Raised when a server refuses for a limit of requests, or fails: it may be asked again in `after_s` seconds."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class Counts(msgspec.Struct, frozen=True):
    """Lines of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def ended(self) -> int:
        """Those of which the results are there."""
        return self.completed + self.failed


class Usage(msgspec.Struct, frozen=True):
    """Tokens of its answers."""

    input_tokens: int = 0
    output_tokens: int = 0


class LineError(msgspec.Struct, frozen=True):
    """What is wrong with its file."""

    message: str
    line: int | None = None


class Errors(msgspec.Struct, frozen=True):
    """All that is."""

    data: tuple[LineError, ...] = ()


class BatchState(msgspec.Struct, frozen=True):
    """A batch as far as this command needs to know it; a newer or older server may say more or less."""

    id: str
    status: str
    endpoint: str = ""
    created_at: int = 0
    request_counts: Counts = Counts()
    usage: Usage | None = None
    errors: Errors | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    waiting_for: str | None = None

    @property
    def ended(self) -> bool:
        """Nothing more will become of it."""
        return self.status in ("completed", "failed", "expired", "cancelled")

    @property
    def well(self) -> bool:
        """Every line has its answer."""
        return self.status == "completed" and self.request_counts.completed == self.request_counts.total


class FileState(msgspec.Struct, frozen=True):
    """A file that is kept."""

    id: str


class BatchPage(msgspec.Struct, frozen=True):
    """Batches, the newest first."""

    data: list[BatchState]


class BatchClient:
    """Asks the server at `root`. Every method raises ServerProblem."""

    def __init__(self, root: str, api_key: str | None) -> None:
        headers, timeout = key_headers(api_key), httpx2.Timeout(ANSWER_S, connect=CONNECT_S)
        self._root = root
        # A proxy would be asked for this machine's own addresses, too.
        self._http = httpx2.Client(base_url=f"{root}/v1", headers=headers, timeout=timeout, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, file: Path, endpoint: str, window: str) -> BatchState:
        """Send a file of requests, and begin a batch of it. Raises OSError, too."""
        with file.open("rb") as content:
            form: dict[str, Any] = {"data": {"purpose": "batch"}, "files": {"file": (file.name, content)}}
            sent = self._ask(FileState, "POST", "/files", **form)
        asked = {"input_file_id": sent.id, "endpoint": endpoint, "completion_window": window}
        return self._ask(BatchState, "POST", "/batches", json=asked)

    def get(self, id_: str) -> BatchState:
        """A batch now."""
        return self._ask(BatchState, "GET", f"/batches/{id_}")

    def newest(self, count: int) -> list[BatchState]:
        """The newest batches."""
        return self._ask(BatchPage, "GET", "/batches", params={"limit": count}).data

    def cancel(self, id_: str) -> BatchState:
        """End a batch."""
        return self._ask(BatchState, "POST", f"/batches/{id_}/cancel")

    def content(self, file_id: str) -> Iterator[bytes]:
        """What a file holds, piece by piece."""
        try:
            with self._http.stream("GET", f"/files/{file_id}/content") as answer:
                if answer.is_error:
                    answer.read()
                    raise refused(answer)
                yield from answer.iter_bytes()
        except httpx2.HTTPError as error:
            raise self._out_of_reach(error) from None

    def _ask(self, type_: type[T], method: str, path: str, **more: Any) -> T:
        try:
            answer = self._http.request(method, path, **more)
        except httpx2.HTTPError as error:
            raise self._out_of_reach(error) from None
        if answer.is_error:
            raise refused(answer)
        try:
            return msgspec.json.decode(answer.content, type=type_)
        except msgspec.MsgspecError:
            raise another_program(str(answer.url)) from None

    def _out_of_reach(self, error: httpx2.HTTPError) -> NoServer:
        return NoServer(f"{self._root} can't be asked: {error or type(error).__name__}")


def refused(answer: httpx2.Response) -> ServerProblem:
    """What to tell of an answer that is an error, and has been read."""
    message, status = problem_of(answer.content), answer.status_code
    if status != httpx2.codes.TOO_MANY_REQUESTS and status < httpx2.codes.INTERNAL_SERVER_ERROR:
        return ServerProblem(message)
    after = answer.headers.get("retry-after", "")
    return NotNow(message, float(after) if after.isdecimal() else 0.0)
