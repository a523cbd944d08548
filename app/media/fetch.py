"""Files from the network."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import httpcore2
from anyio import to_thread

from mlx_server.app.media.addresses import is_public
from mlx_server.app.media.network import GuardedBackend, Resolve, Resolver
from mlx_server.app.media.problem import MediaProblem, TooLarge

NO_URL = "this is no valid URL"
MAX_REDIRECTS = 3
MAX_URL_CHARS = 8192
REDIRECTS = (301, 302, 303, 307, 308)
HEADERS = [(b"User-Agent", b"mlx-server"), (b"Accept", b"*/*"), (b"Accept-Encoding", b"identity")]
SAFE = "!$%&'()*+,/:;=?@[]~"
"""What stays as it is in a path and a query: what is encoded already, too."""


class Fetcher:
    """Fetches files over http and https, from addresses that are `allowed`: without proxies, cookies, credentials."""

    def __init__(
        self,
        allowed: Callable[[str], bool] = is_public,
        resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._backend = GuardedBackend(resolve or Resolver(), allowed)
        self._context = context

    async def fetch(self, url: str, most_bytes: int, count: Callable[[int], None]) -> bytes:
        """The file. `count` is told of bytes as they come. Raises MediaProblem, also for what `count` raises."""
        try:
            for _ in range(MAX_REDIRECTS + 1):
                found = await self._hop(url, most_bytes, count)
                if isinstance(found, bytes):
                    return found
                url = found
        except (httpcore2.NetworkError, httpcore2.TimeoutException):
            raise MediaProblem("its host can't be connected to, or broke the connection") from None
        except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol):
            raise MediaProblem("its host does not answer as HTTP asks for") from None
        raise MediaProblem(f"its host redirects more than {MAX_REDIRECTS} times")

    async def _hop(self, url: str, most_bytes: int, count: Callable[[int], None]) -> bytes | str:
        """The file, or where to look for it."""
        target = target_of(url)
        if target.scheme == b"https" and self._context is None:
            self._context = await to_thread.run_sync(httpcore2.default_ssl_context)  # reads many certificates
        async with (
            httpcore2.AsyncConnectionPool(self._context, network_backend=self._backend) as pool,
            pool.stream("GET", target, headers=HEADERS) as response,
        ):
            headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in REDIRECTS and b"location" in headers:
                return joined(url, headers[b"location"])
            if response.status != 200:
                raise MediaProblem(f"its host answered with the status {response.status}")
            if headers.get(b"content-encoding", "identity").strip().lower() not in ("", "identity"):
                raise MediaProblem("its host sent it compressed, which was not asked for")
            declared = headers.get(b"content-length", "")
            if declared.isdecimal() and int(declared) > most_bytes:
                raise TooLarge(most_bytes)
            data = bytearray()
            async for piece in response.aiter_stream():
                count(len(piece))
                data += piece
                if len(data) > most_bytes:
                    raise TooLarge(most_bytes)
        if not data:
            raise MediaProblem("the file is empty")
        return bytes(data)


def joined(url: str, location: str) -> str:
    """Where a redirect leads. Raises MediaProblem."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise MediaProblem(NO_URL) from None


def target_of(url: str) -> httpcore2.URL:
    """A URL that may be asked for. Raises MediaProblem."""
    if len(url) > MAX_URL_CHARS:
        raise MediaProblem(f"the URL has more than {MAX_URL_CHARS} characters")
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise MediaProblem("only http and https URLs are fetched")
        host, port = ascii_host(parts), parts.port
        if port == 0:
            raise ValueError("no port")
    except ValueError:
        raise MediaProblem(NO_URL) from None
    if parts.username is not None or parts.password is not None:
        raise MediaProblem("URLs with a user's name or password are not fetched")
    target = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
    return httpcore2.URL(scheme=parts.scheme, host=host, port=port, target=target)


def ascii_host(parts: SplitResult) -> bytes:
    """The name as DNS knows it. Raises ValueError if there is none, or one that can't be."""
    host = parts.hostname
    if not host:
        raise ValueError("no host")
    name = host.encode("ascii") if host.isascii() else host.encode("idna")
    if any(byte <= 0x20 or byte == 0x7F for byte in name):
        raise ValueError("no host's name")
    return name
