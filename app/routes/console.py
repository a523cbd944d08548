"""The console: one page in the browser, all of it from this package."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parents[1] / "web" / "console"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
        " media-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # The files of one version belong together: browsers ask each time whether theirs are still the same.
    "Cache-Control": "no-cache",
}
"""What the page shows may come from models: nothing of it is run, and nothing is loaded from other places."""


def page() -> Response:
    """The page itself; which of its two answers `/` gives depends on who asks."""
    return FileResponse(FOLDER / "index.html", headers={**HEADERS, "Vary": "Accept"})


class ConsoleFiles(StaticFiles):
    """The files that the page is made of."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One of them. Raises HTTPException."""
        answer = await super().get_response(path, scope)
        answer.headers.update(HEADERS)
        return answer
