"""The baseline of the scripted backend: Starlette streaming events with no queue and no worker process.

A chat completion whose last user message is `{"tokens": N}` gets N events of one token each, then
usage and `[DONE]`, in the shapes and about the size of a real server's.
"""

import argparse
import json
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

HEAD = '{"id":"chatcmpl-0123456789abcdef01234567","object":"chat.completion.chunk","created":1700000000,'


def _event(rest: str) -> str:
    return f'data: {HEAD}"model":"scripted",{rest}}}\n\n'


def _delta(delta: str, finish: str = "null") -> str:
    return _event(f'"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]')


async def _events(tokens: int) -> AsyncIterator[str]:
    yield _delta('{"role":"assistant","content":""}')
    for index in range(tokens):
        yield _delta(json.dumps({"content": f"t{index} "}))
    yield _delta("{}", '"stop"')
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    yield _event(f'"choices":[],"usage":{json.dumps(usage)}')
    yield "data: [DONE]\n\n"


async def chat(request: Request) -> Response:
    body = await request.json()
    script = json.loads(body["messages"][-1]["content"])
    return StreamingResponse(_events(script["tokens"]), media_type="text/event-stream")


async def ready(_: Request) -> Response:
    return PlainTextResponse("ready")


app = Starlette(
    routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/health/ready", ready)],
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
