"""What a running server tells of its models, as a client of its own reads it: a newer or older one may say more or
less.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException, HTTPResponse
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from mlx_server.app.catalog.kinds import model_type_of

STATUS = "/v1/manager/status"
STATS = "/v1/queue/stats"
MOST_BYTES = 16 << 20
UNANSWERED = (OSError, HTTPException, msgspec.MsgspecError)
NOTHING = msgspec.Raw(b"null")

T = TypeVar("T")


class ServerProblem(Exception):  # noqa: N818 - named for the fact
    """Raised when a server can't be asked; the message is one line and says what to do."""


class NoServer(ServerProblem):
    """Raised when nothing listens there."""


class LoadedModel(msgspec.Struct, frozen=True):
    """A model in the manager's status."""

    loaded_at: datetime | None = None
    last_used_at: datetime | None = None
    memory_usage_gb: float | None = None
    state: str = "loaded"
    pid: int | None = None
    pids: tuple[int, ...] = ()
    replicas: int = 1
    config: dict[str, msgspec.Raw] = {}


class ManagerStatus(msgspec.Struct, frozen=True):
    """What `/v1/manager/status` says."""

    loaded_models: dict[str, LoadedModel]


class Requests(msgspec.Struct, frozen=True):
    """A model's requests."""

    running_requests: int = 0
    waiting_requests: int = 0


class QueueState(msgspec.Struct, frozen=True):
    """What `/v1/queue/stats` says."""

    models: dict[str, Requests] = {}


class ModelLine(msgspec.Struct, frozen=True):
    """A model of a running server. `up_s` and `idle_s` are seconds since it was loaded and since it was last used."""

    name: str
    type: str | None
    state: str
    pids: tuple[int, ...]
    replicas: int
    memory_gb: float | None
    running: int
    waiting: int
    up_s: float | None
    idle_s: float | None


def ask(url: str, api_key: str | None, timeout_s: float, now: datetime) -> list[ModelLine]:
    """The server's models by their names. Raises ServerProblem."""
    root = root_of(url)
    status = get(f"{root}{STATUS}", api_key, timeout_s, ManagerStatus)
    queues = get(f"{root}{STATS}", api_key, timeout_s, QueueState)
    return lines_of(status, queues, now)


def lines_of(status: ManagerStatus, queues: QueueState, now: datetime) -> list[ModelLine]:
    """Both answers together: also models that are not loaded, while requests wait for them."""
    names = set(status.loaded_models) | {name for name, one in queues.models.items() if one.waiting_requests}
    return [line_of(name, status.loaded_models.get(name), queues.models.get(name), now) for name in sorted(names)]


def line_of(name: str, model: LoadedModel | None, requests: Requests | None, now: datetime) -> ModelLine:
    """One model; None is what is not told of it."""
    model = model or LoadedModel(state="not loaded", replicas=0)
    requests = requests or Requests()
    pipeline = model.config.get("model_type", NOTHING)
    return ModelLine(
        name=name,
        type=model_type_of(msgspec.json.decode(pipeline, type=str | None)),
        state=model.state,
        pids=model.pids or ((model.pid,) if model.pid is not None else ()),
        replicas=model.replicas,
        memory_gb=model.memory_usage_gb,
        running=requests.running_requests,
        waiting=requests.waiting_requests,
        up_s=since(model.loaded_at, now),
        idle_s=since(model.last_used_at or model.loaded_at, now),
    )


def since(then: datetime | None, now: datetime) -> float | None:
    """Seconds, not less than none; a time without a zone is in UTC."""
    if then is None:
        return None
    return max(0.0, round((now - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds(), 1))


def root_of(url: str) -> str:
    """The server's address without a path, such as OpenAI's clients have. Raises ServerProblem."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ServerProblem(f"{url!r} is no address of a server: write http://HOST:PORT.")
    return f"{parts.scheme}://{parts.netloc}"


def get(url: str, api_key: str | None, timeout_s: float, answer: type[T]) -> T:
    """What the server answers. Raises ServerProblem."""
    try:
        with opened(url, api_key, timeout_s) as response:
            return msgspec.json.decode(response.read(MOST_BYTES), type=answer)
    except UNANSWERED as error:
        raise problem_of(error, url, keyed=bool(api_key)) from None


def key_headers(api_key: str | None) -> dict[bytes, bytes]:
    """The header with a key, in the bytes that a server compares: a key may be of any letters."""
    return {b"Authorization": b"Bearer " + api_key.encode(errors="surrogateescape")} if api_key else {}


def opened(url: str, api_key: str | None, timeout_s: float) -> HTTPResponse:
    """The answer, to be read and closed. Raises what is in `UNANSWERED`."""
    headers = {name.decode(): value.decode("latin-1") for name, value in key_headers(api_key).items()}
    # A proxy would be asked for this machine's own addresses, too.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    response: HTTPResponse = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s)  # noqa: S310
    return response


def problem_of(error: Exception, url: str, *, keyed: bool) -> ServerProblem:
    """What to tell of an error in `UNANSWERED`; `keyed`: a key was sent."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return ServerProblem(refused(url, error.code, keyed=keyed))
    if isinstance(error, OSError):
        return NoServer(
            f"no server answers at {root_of(url)} ({reason_of(error)}). Start one with `mlx-server launch`, or name"
            " another with --url."
        )
    return another_program(url)


def another_program(url: str) -> ServerProblem:
    """What to tell of an answer that no mlx-server gives."""
    return ServerProblem(f"{url} answered something else: is it an mlx-server?")


def refused(url: str, status: int, *, keyed: bool) -> str:
    """Why the server did not answer the question, in a line; `keyed`: a key was sent."""
    if status == 401:
        return f"{root_of(url)} needs {'another' if keyed else 'a'} key: give one of its own with --api-key."
    if status == 404:
        return f"{url} is not there: the server is another program, or older than this command."
    return f"{url} answered with status {status}."


def reason_of(error: OSError) -> str:
    """What the system says of it."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(cause.strerror or cause) if isinstance(cause, OSError) else str(cause)
