"""A hub on this machine that the real huggingface_hub client talks to: a real HTTP server in a thread."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TOKEN = "hf_let_me_in"
CREATED = "2024-12-01T10:00:00.000Z"
UPDATED = "2025-01-01T12:00:00.000Z"
PAGE = 3
"""Models on one page of a listing."""

PIECE = 64 << 10
LARGE = 1 << 10
"""From how many bytes on a file is kept apart, as LFS has it."""

PATHS = re.compile(r"(.+?)(?:/(revision|tree|auth-check)(?:/.+)?)?")
"""Below /api/models."""


@dataclass
class Repo:
    """A repository: its files, what the hub says of it, and how it misbehaves.

    `pause_s` is waited before each piece of a file. `cuts`: connections that break in the middle of a file before one
    is whole; `ranges` off: it always sends whole files. `lies`: bytes differ from what their checksum says.
    `claims`: sizes that are told instead of the files' own.
    """

    id: str
    files: dict[str, bytes]
    tags: Sequence[str] = ("mlx",)
    pipeline_tag: str | None = "text-generation"
    library_name: str | None = "mlx"
    downloads: int = 0
    likes: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    gated: bool = False
    pause_s: float = 0.0
    cuts: int = 0
    ranges: bool = True
    lies: bool = False
    claims: dict[str, int] = field(default_factory=dict)
    created: str = CREATED
    updated: str = UPDATED

    @property
    def sha(self) -> str:
        """The commit of all its files."""
        return hashlib.sha1("".join(f"{path}{etag(self.files[path])}" for path in self.files).encode()).hexdigest()

    def listed(self) -> dict[str, Any]:
        """What a listing tells of it."""
        return {
            "_id": self.id,
            "id": self.id,
            "modelId": self.id,
            "author": self.id.split("/")[0],
            "sha": self.sha,
            "tags": list(self.tags),
            "pipeline_tag": self.pipeline_tag,
            "library_name": self.library_name,
            "downloads": self.downloads,
            "likes": self.likes,
            "private": False,
            "gated": "manual" if self.gated else False,
            "createdAt": self.created,
            "lastModified": self.updated,
            "config": self.config,
        } | (
            {"safetensors": {"parameters": self.parameters, "total": sum(self.parameters.values())}}
            if self.parameters
            else {}
        )

    def siblings(self, sizes: bool) -> list[dict[str, Any]]:
        """Its files, with their sizes and checksums if asked for."""
        return [self.sibling(path) if sizes else {"rfilename": path} for path in self.files]

    def sibling(self, path: str) -> dict[str, Any]:
        """One of its files."""
        data = self.files[path]
        size = self.claims.get(path, len(data))
        told = {"rfilename": path, "size": size, "blobId": git_hash(data)}
        if len(data) >= LARGE:
            told["lfs"] = {"size": size, "sha256": sha256(data), "pointerSize": 134}
        return told


def sha256(data: bytes) -> str:
    """The name of a large file."""
    return hashlib.sha256(data).hexdigest()


def git_hash(data: bytes) -> str:
    """The name of a small file."""
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


def etag(data: bytes) -> str:
    """The name of a file."""
    return sha256(data) if len(data) >= LARGE else git_hash(data)


def repo_of(folder: Path, id_: str, **more: Any) -> Repo:
    """A repository with a model folder's files."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return Repo(id_, files, **more)


@dataclass(frozen=True)
class Asked:
    """A request: its path with the query, the range and the token that came with it."""

    method: str
    path: str
    range: str | None
    authorization: str | None


class LocalHub:
    """Speaks as much of the hub's HTTP API as its client uses for models."""

    def __init__(self, *repos: Repo) -> None:
        self.repos = {repo.id: repo for repo in repos}
        self.url = ""
        self.requests: list[Asked] = []
        self.sent = 0
        """Bytes of files."""
        self.status = 0
        """With what all requests are refused, if not 0."""
        self.page = ""
        """What all requests are answered with, if anything: what a network's login page does."""
        self.pause_s = 0.0
        """Is waited before each listing."""
        self.app = Starlette(
            routes=[
                Route("/api/models", self.listing),
                Route("/api/models/{id:path}", self.about),
                Route("/{id:path}/resolve/{revision}/{path:path}", self.resolve, methods=["GET", "HEAD"]),
                Route("/lfs/{id:path}/{revision}/{path:path}", self.content),
            ]
        )

    @property
    def far(self) -> str:
        """The same server under another host's name: where large files are, as on the hub."""
        return self.url.replace("127.0.0.1", "localhost")

    def asked_for(self, part: str) -> list[Asked]:
        """The requests with this in their paths."""
        return [request for request in self.requests if part in request.path]

    def refusal(self, request: Request, repo: Repo | None, *, protected: bool = True) -> Response | None:
        """Notes the request, and refuses what must be refused. What is not protected is told of gated ones, too."""
        query = f"?{request.url.query}" if request.url.query else ""
        given = request.headers
        asked = Asked(request.method, f"{request.url.path}{query}", given.get("range"), given.get("authorization"))
        self.requests.append(asked)
        if self.status:
            return Response(status_code=self.status)
        if self.page:
            return Response(self.page, media_type="text/html")
        if repo is None:
            return JSONResponse({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        if repo.gated and protected and request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": "Access to this model is restricted."}, 401, {"X-Error-Code": "GatedRepo"})
        return None

    async def listing(self, request: Request) -> Response:
        """GET /api/models with search, filter, author, pipeline_tag, sort, limit and pages."""
        query = request.query_params
        await anyio.sleep(self.pause_s)
        refused = self.refusal(request, None)
        if refused is not None and (self.status or self.page):
            return refused
        found = [repo for repo in self.repos.values() if matches(repo, request)]
        order = {"downloads": "downloads", "likes": "likes", "createdAt": "created", "lastModified": "updated"}
        if "sort" in query:
            found.sort(key=lambda repo: getattr(repo, order[query["sort"]]), reverse=True)
        start = int(query.get("cursor", 0))
        page = found[start : start + min(PAGE, int(query.get("limit", PAGE)))]
        headers = {}
        if start + PAGE < len(found):
            following = request.url.include_query_params(cursor=start + PAGE)
            headers["Link"] = f'<{following}>; rel="next"'
        return JSONResponse([repo.listed() for repo in page], headers=headers)

    async def about(self, request: Request) -> Response:
        """GET /api/models/{id}, …/revision/{revision}, …/tree/{revision} and …/auth-check."""
        asked = PATHS.fullmatch(request.path_params["id"])
        assert asked is not None
        id_, what = asked.groups()
        repo = self.repos.get(id_)
        if (refused := self.refusal(request, repo, protected=what == "auth-check")) is not None:
            return refused
        assert repo is not None
        if what == "auth-check":
            return Response()
        if what == "tree":
            return JSONResponse([tree_entry(repo.sibling(path)) for path in repo.files])
        sizes = request.query_params.get("blobs", "").lower() in ("true", "1")
        return JSONResponse({**repo.listed(), "siblings": repo.siblings(sizes)})

    async def resolve(self, request: Request) -> Response:
        """A small file itself; for a large one the address where it is."""
        repo = self.repos.get(request.path_params["id"])
        if (refused := self.refusal(request, repo)) is not None:
            return refused
        assert repo is not None
        path = request.path_params["path"]
        if path not in repo.files:
            return Response(status_code=404, headers={"X-Error-Code": "EntryNotFound"})
        data = repo.files[path]
        size = str(repo.claims.get(path, len(data)))
        headers = {"X-Repo-Commit": repo.sha, "ETag": f'"{git_hash(data)}"', "Accept-Ranges": "bytes"}
        if len(data) < LARGE:
            if request.method == "HEAD":
                return Response(headers={**headers, "Content-Length": size})
            return Response(data, headers=headers)
        headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": size}
        return Response(status_code=302, headers={**headers, "Location": f"{self.far}/lfs/{repo.id}/{repo.sha}/{path}"})

    async def content(self, request: Request) -> Response:
        """A large file, or what is left of it."""
        repo = self.repos[request.path_params["id"]]
        self.refusal(request, repo)
        data = repo.files[request.path_params["path"]]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")) if repo.ranges else None
        start = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1, len(data)) if asked and asked[2] else len(data)
        headers = {"Content-Length": str(end - start), "ETag": f'"{sha256(data)}"'}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        body = bytes(len(data)) if repo.lies else data
        return StreamingResponse(self.pieces(repo, body[start:end]), 206 if asked else 200, headers)

    async def pieces(self, repo: Repo, data: bytes) -> AsyncIterator[bytes]:
        """The bytes, slowly or cut off if the repository is so."""
        cut = repo.cuts > 0
        repo.cuts -= cut
        end = len(data) // 2 if cut else len(data)
        for start in range(0, end, PIECE):
            await anyio.sleep(repo.pause_s)
            piece = data[start : min(start + PIECE, end)]
            self.sent += len(piece)
            yield piece
        if cut:
            raise ConnectionAbortedError


def tree_entry(sibling: dict[str, Any]) -> dict[str, Any]:
    """A file as the tree has it."""
    entry = {"type": "file", "path": sibling["rfilename"], "size": sibling["size"], "oid": sibling["blobId"]}
    if "lfs" in sibling:
        lfs = sibling["lfs"]
        entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return entry


def matches(repo: Repo, request: Request) -> bool:
    """Whether a listing's query means this repository."""
    query = request.query_params
    return (
        query.get("search", "").lower() in repo.id.lower()
        and set(query.getlist("filter")) <= {*repo.tags, repo.library_name, repo.pipeline_tag}
        and query.get("author", repo.id.split("/")[0]) == repo.id.split("/")[0]
        and query.get("pipeline_tag", repo.pipeline_tag) == repo.pipeline_tag
    )


@contextmanager
def running(hub: LocalHub) -> Iterator[LocalHub]:
    """Serve it on a free port for a while."""
    listener = socket.create_server(("127.0.0.1", 0))
    hub.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(hub.app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield hub
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
