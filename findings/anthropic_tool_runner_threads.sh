#!/usr/bin/env bash
# anthropic 2.14.0 for Python: its tool runner tells a server that passes over `thread` only half of a conversation.
#
# Guess before it was run: `client.beta.messages.tool_runner` sends the whole conversation in every turn, with `tools`
# and `system`, as `client.messages.create` has to be given it; a field that a server of the same API doesn't know does
# no harm.
# Seen: its first request has `thread: {"type": "create"}`. To a server that answers it like any other, the second has
# `thread: {"type": "continue", "previous_message_id": …}`, the tool's result, and neither the question, the call,
# `tools` nor `system`: the model is asked about a result of nothing, and nobody is told. Where the server answers 400
# with `error.details.error_code` of `thread_unsupported_request` instead, the runner sends the same turn again without
# `thread`, and from then on everything.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "anthropic==2.14.0"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from anthropic import Anthropic, beta_tool

CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
SAID = {"type": "text", "text": "It is warm."}
REFUSAL = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "no threads here",
        "details": {"error_code": "thread_unsupported_request", "unsupported": ["thread"]},
    },
}


@beta_tool
def weather(city: str) -> str:
    """How warm it is.

    Args:
        city: Where.
    """
    return "17 degrees"


def asked_of(refuses: bool) -> list[dict]:
    """The bodies that a server gets which knows no threads, and says so or passes over them."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            refused = refuses and "thread" in bodies[-1]
            known = json.dumps(bodies[-1]["messages"])
            content = [SAID] if "tool_result" in known else [CALL]
            message = {
                "id": f"msg_{len(bodies)}",
                "type": "message",
                "role": "assistant",
                "model": "any",
                "content": content,
                "stop_reason": "end_turn" if content == [SAID] else "tool_use",
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
            answer = json.dumps(REFUSAL if refused else message).encode()
            self.send_response(400 if refused else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    client = Anthropic(base_url=f"http://127.0.0.1:{server.server_port}", api_key="none", max_retries=0)
    client.beta.messages.tool_runner(
        model="any",
        max_tokens=50,
        system="Be brief.",
        tools=[weather],
        messages=[{"role": "user", "content": "How warm is it in Rome?"}],
    ).until_done()
    server.shutdown()
    return bodies


def told(body: dict) -> tuple[str | None, int, bool]:
    """The kind of thread, the number of messages, and whether there are tools."""
    return (body.get("thread") or {}).get("type"), len(body["messages"]), "tools" in body and "system" in body


passed_over, refused = ([told(body) for body in asked_of(refuses)] for refuses in (False, True))
print("passed over:", passed_over)
print("refused:    ", refused)
sys.exit(
    passed_over != [("create", 1, True), ("continue", 1, False)]
    or refused != [("create", 1, True), (None, 1, True), (None, 3, True)]
)
PYTHON
