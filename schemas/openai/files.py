"""Files that stand in a conversation of OpenAI's APIs."""

from __future__ import annotations

from mlx_server.schemas.internal.documents import frame
from mlx_server.schemas.internal.generation import Document, Remote
from mlx_server.schemas.internal.media import as_url


def document_of(file: str, name: str | None, before: str, where: str) -> tuple[str, Document]:
    """The text of a message so far, with what stands round a file after it, and the file in its place there.

    `before` is the text before the file, `where` the path of `file`, a URL or plain base64.
    """
    opening, closing = frame("document", title=name)
    line = "" if not before or before.endswith("\n") else "\n"
    text = f"{before}{line}{opening}"
    return text + closing, Document(Remote(as_url(file)), len(text), where)
