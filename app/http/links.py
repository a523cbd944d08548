"""Links to the server's own routes, as answers have them."""

from __future__ import annotations

from starlette.requests import Request

from mlx_server.app.http.services import services


def link_to(request: Request, route: str, **parameters: str) -> str:
    """Where clients find a route by its name: below the public address, else where this request found the server.

    No header of a proxy's is believed: anybody can write one.
    """
    public = services(request).settings.public_url
    if public is None:
        return str(request.url_for(route, **parameters))
    return f"{public}{request.app.url_path_for(route, **parameters)}"
