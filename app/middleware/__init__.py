"""Pure ASGI middleware: Starlette's BaseHTTPMiddleware breaks the detection of clients that leave."""
