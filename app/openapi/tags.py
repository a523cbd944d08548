"""Groups of operations, in the order in which they are shown."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_server.app.http.errors import ANTHROPIC_ROOT, below


@dataclass(frozen=True)
class Tag:
    """A group: what it is for, and the paths that its operations are at or below."""

    name: str
    description: str
    roots: tuple[str, ...] = ()


REST = Tag("Server", "What the server does now and did so far, whether it is well, and how it is stopped.")
TAGS = (
    Tag("Chat and text", "OpenAI's chat completions and text completions.", ("/v1/chat", "/v1/completions")),
    Tag("Responses", "OpenAI's responses, and conversations they go on from.", ("/v1/responses", "/v1/conversations")),
    Tag("Anthropic", "Anthropic's messages, for its clients and agents.", (ANTHROPIC_ROOT,)),
    Tag(
        "Embeddings and reranking",
        "Vectors of texts, and documents by their relevance to a query.",
        ("/v1/embeddings", "/v1/rerank", "/v2/rerank", "/rerank", "/v1/score", "/score"),
    ),
    Tag("Sound", "Recordings written down or translated, and texts read aloud.", ("/v1/audio",)),
    Tag("Pictures", "Pictures that are drawn or changed as a prompt says.", ("/v1/images",)),
    Tag("Files and batches", "Files that are kept for later requests.", ("/v1/files", "/v1/uploads", "/v1/batches")),
    Tag(
        "Tokens and cache",
        "Tokens of a prompt, and how much of it is known already.",
        ("/v1/tokenize", "/tokenize", "/v1/detokenize", "/detokenize", "/v1/cache"),
    ),
    Tag(
        "Models",
        "Which models there are, here and on the hub; loading and unloading them.",
        ("/v1/models", "/v1/discover", "/v1/manager"),
    ),
    REST,
    Tag("Impetus", "Paths that clients of Impetus know: models, downloads, the machine and its health.", ("/api",)),
)


def tag_of(path: str) -> Tag:
    """The group of a path."""
    return next((tag for tag in TAGS if any(below(path, root) for root in tag.roots)), REST)
