"""What clients say is found in nothing that the server tells: no error, log or figure, however a request ends."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.running.raw import RawClient
from support.running.servers import ROOT, SCRIPTED, Server, chat_body
from support.running.streams import stream_chat
from support.tiny.sight import SHAPES

CANARY = "Canary-5e11"
"""In every text that a client sends here. Base64 hides it from nobody: `ENCODED` is looked for as well."""

ENCODED = base64.b64encode(CANARY.encode()).decode().rstrip("=")
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": CANARY})}}
SAID = [
    {"role": "system", "content": CANARY},
    {"role": "user", "content": f"What is {CANARY}?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": CANARY},
]
TOLD = ("/metrics", "/v1/queue/stats", "/v1/manager/status", "/v1/system/logs", "/v1/system/status", "/v1/models")
INJECT = ROOT / "bench" / "faults" / "inject"
ENGINE = "mlx_server.workers.engine"


def shown(kind: str, url: str) -> list[dict[str, Any]]:
    """A message with a file."""
    given = {"file": {"file_data": url, "filename": "a"}} if kind == "file" else {kind: {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": CANARY}, {"type": kind, **given}]}]


def messages(*more: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [*SAID, *more]}


def inline(media_type: str, content: str = CANARY) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content.encode()).decode()}"


CHAT, COMPLETIONS, RESPONSES, ANTHROPIC = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
STRICT = {"type": "function", "function": {"name": CANARY[:6], "strict": True, "parameters": {"not": {}}}}
REFUSED: list[tuple[str, str, Any]] = [
    ("field", CHAT, messages() | {"temperature": 99}),
    ("too long", CHAT, messages({"role": "user", "content": f"{CANARY} " * 3000})),
    ("role", CHAT, {"messages": [{"role": 5, "content": CANARY}]}),
    ("content of a wrong type", CHAT, {"messages": [{"role": "user", "content": {"text": CANARY}}]}),
    ("half a body", CHAT, json.dumps(messages()).encode()[:-9]),
    ("no UTF-8", CHAT, json.dumps(messages()).encode().replace(b"What", b"\xff")),
    ("arguments that are no JSON", CHAT, messages({**SAID[2], "tool_calls": [{**CALL, "function": CANARY}]})),
    ("file that is no text", CHAT, {"messages": shown("file", inline("text/plain", f"{CANARY}\0"))}),
    ("file that is no PDF", CHAT, {"messages": shown("file", inline("application/pdf", f"%PDF-1.4 {CANARY}"))}),
    ("picture that is none", CHAT, {"messages": shown("image_url", inline("image/png"))}),
    ("picture without base64", CHAT, {"messages": shown("image_url", f"data:image/png;base64,{CANARY}!")}),
    ("picture of a private address", CHAT, {"messages": shown("image_url", f"http://127.0.0.1/{CANARY}")}),
    ("tools that can't be promised", CHAT, messages() | {"tools": [STRICT]}),
    ("grammar", CHAT, messages() | {"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}}),
    ("prompt too long", COMPLETIONS, {"prompt": f"{CANARY} " * 3000}),
    ("stop strings", COMPLETIONS, {"prompt": CANARY, "stop": [CANARY] * 99}),
    ("response before it", RESPONSES, {"input": CANARY, "previous_response_id": "resp_none"}),
    ("response's field", RESPONSES, {"input": [{"role": "user", "content": CANARY}], "temperature": 99}),
    ("item", RESPONSES, {"input": [{"type": "function_call", "call_id": "c1", "arguments": CANARY}]}),
    ("Anthropic's field", ANTHROPIC, {"max_tokens": -1, "messages": [{"role": "user", "content": CANARY}]}),
    ("embeddings of what makes none", "/v1/embeddings", {"input": CANARY, "dimensions": 0}),
    ("tokens", "/tokenize", {"prompt": [CANARY]}),
]


def check_kept_private(server: Server, refusals: dict[str, str]) -> None:
    """In what clients were told, in all that can be asked of the server, and in what both processes have printed."""
    told = {path: server.get(path).text for path in TOLD}
    told["OpenMetrics"] = server.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text
    told["output"] = server.output()
    for where, text in {**refusals, **told}.items():
        assert CANARY not in text, where
        assert ENCODED not in text, where


@pytest.mark.model
def test_whatever_a_model_refuses_is_not_repeated(launch: Callable[..., Server], tmp_path: Path) -> None:
    order = tmp_path / "order.json"
    env = {"PYTHONPATH": str(INJECT), "FAULTS_ORDER": str(order)}
    server = launch("--model-path", SHAPES, "--log-level", "debug", env=env)
    refusals = {}
    for name, path, body in REFUSED:
        answer = server.post(path, body)
        assert answer.status_code == 400, (name, answer.text)
        refusals[name] = answer.text
    assert server.chat(CANARY, max_tokens=2).status_code == 200
    [pid] = server.worker_pids()
    for at in (f"{ENGINE}.vision.batch:VisionEngine._advance", f"{ENGINE}.output.answer:Answer.add"):
        order.write_text(json.dumps({"at": at, "times": 99, "only": "", "cut": False}))
        psutil.Process(pid).send_signal(signal.SIGUSR1)
        server.wait_until(lambda: server.chat(CANARY, max_tokens=2).status_code != 200)
        failed = server.post(CHAT, messages() | {"max_tokens": 2})
        assert failed.status_code == 500, failed.text
        refusals[at] = failed.text
    check_kept_private(server, refusals)


def test_requests_that_end_badly_leave_nothing_of_what_they_said(launch: Callable[..., Server]) -> None:
    limits = {"max-concurrency": 1, "queue-size": 0, "request-timeout": 1.5, "drain-timeout": 0.2}
    given = [part for name, limit in limits.items() for part in (f"--{name}", limit)]
    server = launch(*SCRIPTED, *given, "--log-level", "debug", "--log-format", "json")
    script = {"text": CANARY, "tokens": 9}
    endless = {**script, "tokens": 4000, "interval_s": 0.02}
    assert server.chat(script, user=CANARY, metadata={CANARY: CANARY}, unknown=CANARY, model=CANARY).status_code == 200
    asked = {400: {**script, "invalid": True}, 500: {**script, "raise_at": 2}, 504: endless}
    answers = {status: server.chat(what) for status, what in asked.items()}
    with RawClient(server, chat_body(endless, stream=True)) as running:
        running.read_until(CANARY.encode())
        answers[429] = server.chat(endless)
    server.wait_stats(active_requests=0)
    refusals = {str(status): answer.text for status, answer in answers.items() if answer.status_code == status}
    assert len(refusals) == 4, answers
    for fault in ("raise_at", "crash_at"):
        *_, error = stream_chat(server, {**script, fault: 3})
        refusals[f"stream of {fault}"] = json.dumps(error["error"])
    server.wait_ready()
    check_kept_private(server, refusals)
    with ThreadPoolExecutor(1) as pool:
        cut_short = pool.submit(server.chat, endless)
        server.wait_stats(running_requests=1)
        server.process.send_signal(signal.SIGTERM)
        assert cut_short.result().status_code == 503
    assert CANARY not in cut_short.result().text + server.output()
