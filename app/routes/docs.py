"""`GET /docs`: Swagger UI, all of it from this server."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

OURS = Path(__file__).parents[1] / "web"
ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")

POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The page loads and asks nothing but this server, and runs no script that is written into it."""


async def page(request: Request) -> Response:
    """The page. It asks for the document itself, and for a key where that needs one."""
    return FileResponse(OURS / "docs.html", headers=POLICY)


async def asset(request: Request) -> Response:
    """A file that the page is made of."""
    name = request.path_params["name"]
    headers = {**POLICY, "Cache-Control": "public, max-age=3600"}
    if name == "docs.js":
        return FileResponse(OURS / name, headers=headers)
    if name not in ASSETS:
        raise HTTPException(404)
    # Whoever never opens the page need not wait for this.
    from swagger_ui_bundle import swagger_ui_path

    return FileResponse(swagger_ui_path / name, headers=headers)
