"""Fetching, from real sockets on this machine: a resolver says which names stand for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.running.hosts import Answer, Host, host, reply

from mlx_server.app.media.addresses import is_public
from mlx_server.app.media.fetch import Fetcher
from mlx_server.app.media.network import NOT_PUBLIC
from mlx_server.app.media.problem import MediaProblem, TooLarge

PICTURE = b"\x89PNG" * 1000
ALLOWED, PRIVATE = "127.0.0.1", "127.0.0.2"


def first_of_two(address: str) -> bool:
    """Stands for the difference between public and private addresses, as both are this machine's here."""
    return address == ALLOWED


class Names:
    """Answers in turn, the last one again and again; `asked` are the names that were looked up."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self._answers[min(len(self.asked), len(self._answers)) - 1]


async def fetch(url: str, *, most: int = 1 << 20, **how: Any) -> bytes:
    return await Fetcher(**{"allowed": first_of_two, **how}).fetch(url, most, lambda count: None)


async def problem(work: Awaitable[bytes]) -> str:
    with pytest.raises(MediaProblem) as caught:
        await work
    return str(caught.value)


def with_host(answer: Answer, scenario: Any, context: ssl.SSLContext | None = None) -> Any:
    """Run a scenario beside a host."""

    async def run() -> Any:
        async with asyncio.timeout(30), host(answer, context) as running:
            return await scenario(running)

    return asyncio.run(run())


async def picture(path: str, writer: asyncio.StreamWriter) -> None:
    reply(writer, PICTURE, Content_Type="text/html")


def test_a_file_is_fetched_whatever_it_is_called() -> None:
    async def scenario(there: Host) -> None:
        counted: list[int] = []
        url = f"http://127.0.0.1:{there.port}/a b/ü.png?size=1&x=%20#fragment"
        assert await Fetcher(first_of_two).fetch(url, 1 << 20, counted.append) == PICTURE
        assert sum(counted) == len(PICTURE)
        head = there.asked[0].lower()
        assert head.startswith("get /a%20b/%c3%bc.png?size=1&x=%20 http/1.1")
        assert f"host: 127.0.0.1:{there.port}" in head
        assert "accept-encoding: identity" in head
        assert "cookie" not in head
        assert "authorization" not in head

    with_host(picture, scenario)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def scenario(there: Host) -> None:
        assert await fetch(f"http://127.0.0.1:{there.port}/") == PICTURE

    with_host(picture, scenario)


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "017700000001", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_private_however_it_is_written(name: str) -> None:
    async def scenario(there: Host) -> None:
        assert await problem(fetch(f"http://{name}:{there.port}/", allowed=is_public)) == NOT_PUBLIC
        assert there.asked == []

    with_host(picture, scenario)


@pytest.mark.parametrize(
    "addresses", [[], ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["8.8.8.8", "::1"]]
)
def test_all_addresses_of_a_name_must_be_public(addresses: list[str]) -> None:
    async def scenario(there: Host) -> None:
        url = f"http://pictures.example:{there.port}/"
        assert await problem(fetch(url, allowed=is_public, resolve=Names(addresses))) == NOT_PUBLIC
        assert there.asked == []

    with_host(picture, scenario)


def test_what_was_looked_at_is_what_is_connected_to() -> None:
    """The name means another host at every look: only the first counts, and it is not looked up again."""

    async def scenario(there: Host) -> None:
        names = Names([ALLOWED], [PRIVATE])
        assert await fetch(f"http://pictures.example:{there.port}/", resolve=names) == PICTURE
        assert names.asked == ["pictures.example"]
        assert f"Host: pictures.example:{there.port}" in there.asked[0]

    with_host(picture, scenario)


def test_a_redirect_to_a_private_host_is_not_followed() -> None:
    async def scenario(there: Host) -> None:
        allowed, private = Names([ALLOWED]), Names([ALLOWED], [PRIVATE])
        async with host(redirecting(f"http://inside.example:{there.port}/")) as first:
            url = f"http://outside.example:{first.port}/"
            assert await fetch(url, resolve=allowed) == PICTURE
            assert await problem(fetch(url, resolve=private)) == NOT_PUBLIC
        assert allowed.asked == private.asked == ["outside.example", "inside.example"]
        assert len(there.asked) == 1

    with_host(picture, scenario)


def redirecting(location: str, status: str = "302 Found") -> Answer:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        reply(writer, b"", status, Location=location)

    return answer


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("/again", "redirects more than 3 times"),
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.com/", "only http and https"),
        ("http://user:secret@example.com/", "name or password"),
        ("http://[::1", "no valid URL"),
        ("http://" + "a" * 9000, "more than 8192 characters"),
    ],
)
@pytest.mark.parametrize("status", ["301 Moved", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_lead_only_where_requests_may(location: str, said: str, status: str) -> None:
    async def scenario(there: Host) -> None:
        assert said in await problem(fetch(f"http://127.0.0.1:{there.port}/"))
        assert len(there.asked) == (4 if location == "/again" else 1)

    with_host(redirecting(location, status), scenario)


async def misbehave(path: str, writer: asyncio.StreamWriter) -> None:
    match path:
        case "/large":
            reply(writer, b"x" * 2000)
        case "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
                await writer.drain()
        case "/no-length":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000)
        case "/declared":
            reply(writer, b"x", Content_Length="5000000000")
        case "/gzip":
            reply(writer, b"x" * 10, Content_Encoding="gzip")
        case "/short":
            reply(writer, b"x" * 10, Content_Length="500")
        case "/empty":
            reply(writer)
        case "/garbage":
            writer.write(b"\x00\x01\x02\r\n\r\n")
        case "/headers":
            writer.write(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 500_000 + b"\r\n\r\n")
        case "/secret":
            reply(writer, b"the secret of this host", "403 Forbidden")
        case "/gone":
            reply(writer, b"", "404 Not Found")
        case "/nothing":
            pass


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("large", "larger than 1000 bytes"),
        ("endless", "larger than 1000 bytes"),
        ("no-length", "larger than 1000 bytes"),
        ("declared", "larger than 1000 bytes"),
        ("gzip", "sent it compressed"),
        ("short", "does not answer as HTTP asks for"),
        ("empty", "the file is empty"),
        ("garbage", "does not answer as HTTP asks for"),
        ("headers", "does not answer as HTTP asks for"),
        ("nothing", "does not answer as HTTP asks for"),
        ("secret", "answered with the status 403"),
        ("gone", "answered with the status 404"),
    ],
)
def test_hosts_that_misbehave_are_named_as_such(path: str, said: str) -> None:
    async def scenario(there: Host) -> None:
        message = await problem(fetch(f"http://127.0.0.1:{there.port}/{path}", most=1000))
        assert said in message
        assert "secret of" not in message
        await there.quiet.wait()

    with_host(misbehave, scenario)


def test_nobody_at_the_port_is_a_refusal() -> None:
    async def scenario(there: Host) -> str:
        return f"http://127.0.0.1:{there.port}/"

    url = with_host(picture, scenario)
    assert "can't be connected to" in asyncio.run(problem(fetch(url)))


def test_whoever_is_cancelled_leaves_no_connection() -> None:
    async def drip(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            began.set()
            await asyncio.sleep(0.01)

    began = asyncio.Event()

    async def scenario(there: Host) -> None:
        task = asyncio.create_task(fetch(f"http://127.0.0.1:{there.port}/"))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await there.quiet.wait()

    with_host(drip, scenario)


def test_the_counter_can_stop_a_fetch() -> None:
    def full(count: int) -> None:
        raise TooLarge(5)

    async def scenario(there: Host) -> None:
        with pytest.raises(TooLarge):
            await Fetcher(first_of_two).fetch(f"http://127.0.0.1:{there.port}/", 1 << 20, full)
        await there.quiet.wait()

    with_host(picture, scenario)


def certificate(name: str, folder: Any) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A host's TLS context for this name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "host.pem").write_bytes(secret + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "host.pem")
    return context, ssl.create_default_context(cadata=pem.decode())


def test_tls_is_spoken_with_the_name_and_not_with_the_address(tmp_path: Any) -> None:
    served, trusting = certificate("pictures.example", tmp_path)

    async def scenario(there: Host) -> None:
        how = {"resolve": Names([ALLOWED]), "context": trusting}
        assert await fetch(f"https://pictures.example:{there.port}/", **how) == PICTURE
        assert "can't be connected to" in await problem(fetch(f"https://other.example:{there.port}/", **how))
        strict = {"resolve": Names([ALLOWED])}
        assert "can't be connected to" in await problem(fetch(f"https://pictures.example:{there.port}/", **strict))

    with_host(picture, scenario, served)
