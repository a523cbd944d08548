"""Pictures over HTTP, from clients as they are to the worker, which tells what it got."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from support.inputs.refusals import check_shape
from support.pictures import picture_file, plain
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body, serving

PICTURE = picture_file(plain("red"))
OTHER = picture_file(plain("blue"), "JPEG")
SCRIPT = json.dumps({"media": True, "tokens": 1})


def data_url(file: bytes = PICTURE, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(file).decode()}"


def seen(*files: bytes, at: int = 0, detail: str = "auto", kind: str = "image") -> list[dict[str, Any]]:
    return [{"kind": kind, "at": at, "detail": detail, "sha256": hashlib.sha256(file).hexdigest()} for file in files]


class Pictures(http.server.BaseHTTPRequestHandler):
    """A host of two pictures, and of nothing else."""

    def do_GET(self) -> None:
        file = {"/red.png": PICTURE, "/blue.jpg": OTHER}.get(self.path)
        self.send_response(404 if file is None else 200)
        self.end_headers()
        self.wfile.write(file or b"the text of a page that nobody may see")

    def log_message(self, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def pictures() -> Iterator[str]:
    """The URL of a host of pictures."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{host.server_port}"
        host.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one picture."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "red.png").write_bytes(PICTURE)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Fetches from anywhere."""
    with serving(*SCRIPTED, "--private-media-urls", "--allowed-media-dir", folder) as server:
        yield server


def show(*urls: str) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": SCRIPT}]}]


def answer(server: Server, messages: Any) -> Any:
    response = server.post("/v1/chat/completions", {"messages": messages})
    assert response.status_code == 200, response.text
    return json.loads(response.json()["choices"][0]["message"]["content"])


def test_pictures_reach_the_worker_from_everywhere(server: Server, pictures: str, folder: Path) -> None:
    urls = [data_url(), f"{pictures}/blue.jpg", f"file://{folder}/red.png", base64.b64encode(OTHER).decode()]
    assert answer(server, show(*urls)) == seen(PICTURE, OTHER, PICTURE, OTHER)


def test_pictures_of_several_turns_reach_it_in_order(server: Server) -> None:
    told = {"role": "assistant", "content": "A red one."}
    assert answer(server, [*show(data_url()), told, *show(data_url(OTHER))]) == seen(PICTURE, OTHER)


def session(*urls: str) -> list[dict[str, Any]]:
    """A conversation whose tool shows a picture in each turn."""
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said: list[dict[str, Any]] = [{"role": "user", "content": "Look."}]
    for url in urls:
        shown = [{"type": "image_url", "image_url": {"url": url}}]
        said += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": shown},
        ]
    return [*said, {"role": "user", "content": SCRIPT}]


def test_a_session_with_many_pictures_goes_on_with_the_newest(server: Server) -> None:
    files = [PICTURE + bytes([n]) for n in range(17)]
    messages = session(*map(data_url, files))
    assert [one["sha256"] for one in answer(server, messages)] == [one["sha256"] for one in seen(*files[8:])]
    response = server.post("/v1/chat/completions", {"messages": messages})
    assert response.headers["x-ignored-fields"] == ", ".join(f"messages[{2 + 2 * n}].content[0]" for n in range(8))


def test_what_a_tool_shows_and_nobody_can_fetch_is_words(server: Server, pictures: str) -> None:
    messages = session(f"{pictures}/red.png", f"{pictures}/nothing.png", "data:image/png;base64,!", data_url(OTHER))
    assert answer(server, messages) == seen(PICTURE, OTHER)
    response = server.post("/v1/chat/completions", {"messages": messages})
    named = response.headers["x-ignored-fields"].split(", ")
    assert sorted(named) == ["messages[4].content[0]", "messages[6].content[0]"]


def test_a_page_that_is_not_there_is_not_shown_to_the_client(server: Server, pictures: str) -> None:
    response = server.post("/v1/chat/completions", {"messages": show(f"{pictures}/secret.html")})
    error = check_shape(response, 400, "messages[0].content[0]")
    assert error["message"] == "`messages[0].content[0]`: its host answered with the status 404."


def test_openais_client_shows_pictures(server: Server, pictures: str) -> None:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        chat = client.chat.completions.create(
            model="any",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": data_url(), "detail": "low"}},
                        {"type": "text", "text": SCRIPT},
                        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    ],
                }
            ],
        )
        sound = seen(b"RIFF", at=len(SCRIPT), kind="audio")
        assert json.loads(chat.choices[0].message.content or "") == seen(PICTURE, detail="low") + sound
        script: Any = {"type": "input_text", "text": SCRIPT}
        first = client.responses.create(
            model="any",
            input=[
                {
                    "role": "user",
                    "content": [
                        script,
                        {"type": "input_image", "image_url": f"{pictures}/red.png", "detail": "high"},
                    ],
                }
            ],
        )
        assert json.loads(first.output_text) == seen(PICTURE, at=len(SCRIPT), detail="high")
        second = client.responses.create(model="any", input=SCRIPT, previous_response_id=first.id)
        assert json.loads(second.output_text) == seen(PICTURE, at=len(SCRIPT), detail="high")
        kept = client.responses.input_items.list(second.id, order="asc").data[0].to_dict()
        assert kept["content"][1]["image_url"] == f"{pictures}/red.png"  # type: ignore[index]


def test_a_response_in_the_background_sees_them_too(server: Server) -> None:
    body = {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": data_url()}]}]}
    body["input"][0]["content"].append({"type": "input_text", "text": SCRIPT})
    made = server.post("/v1/responses", {**body, "background": True}).json()

    def done() -> bool:
        made.update(server.get(f"/v1/responses/{made['id']}").json())
        return made["status"] not in ("queued", "in_progress")

    server.wait_until(done)
    assert json.loads(made["output"][0]["content"][0]["text"]) == seen(PICTURE)


def test_anthropics_client_shows_pictures(server: Server, pictures: str) -> None:
    data = base64.b64encode(PICTURE).decode()
    with anthropic.Anthropic(base_url=server.root, api_key="none", max_retries=0) as client:
        conversation: Any = [
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "url", "url": f"{pictures}/blue.jpg"}}],
            },
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "look", "input": {}}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "1",
                        "content": [
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
                        ],
                    },
                    {"type": "text", "text": SCRIPT},
                ],
            },
        ]
        message = client.messages.create(model="any", max_tokens=9, messages=conversation)
        block = message.content[0]
        assert block.type == "text"
        assert json.loads(block.text) == seen(OTHER, PICTURE)
        assert client.messages.count_tokens(model="any", messages=conversation).input_tokens == 3
        source = {"type": "url", "url": f"{pictures}/gone"}
        bad: Any = [{"role": "user", "content": [{"type": "image", "source": source}]}]
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(model="any", max_tokens=9, messages=bad)
        assert caught.value.body["type"] == "error"  # type: ignore[index]
        assert "answered with the status 404" in str(caught.value)


def test_a_client_that_leaves_ends_the_fetch(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as slow:
        url = f"http://127.0.0.1:{slow.getsockname()[1]}/a.png"
        slow.settimeout(30)
        with RawClient(server, {"messages": show(url)}) as client:
            fetching, _ = slow.accept()
            with fetching:
                fetching.settimeout(30)
                assert fetching.recv(65536).startswith(b"GET /a.png")
                client.leave()
                assert fetching.recv(1) == b""
    assert server.stats()["active_requests"] == 0
    assert answer(server, show(data_url())) == seen(PICTURE)


@pytest.mark.parametrize("path", ["/tokenize", "/v1/messages/count_tokens"])
def test_tokens_of_pictures_are_counted(server: Server, path: str) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data_url()[22:]}}
    counted = server.post(path, {"messages": [{"role": "user", "content": [image, image]}]}).json()
    assert (counted.get("count") or counted.get("input_tokens")) == 3


@pytest.mark.model
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize", "/v1/messages", "/v1/messages/count_tokens"])
def test_a_model_that_only_reads_is_shown_nothing(smollm2_server: Server, path: str) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9/"}}
    response = smollm2_server.post(path, {"max_tokens": 9, "messages": [{"role": "user", "content": [image]}]})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "messages[0].content[0]")
    assert error["message"].startswith("Vision requests are not supported with text-only models.")


@pytest.mark.model
@pytest.mark.parametrize("background", [True, False])
def test_nor_in_a_response(smollm2_server: Server, background: bool) -> None:
    image = {"type": "input_image", "image_url": "http://127.0.0.1:9/"}
    body = {"input": [{"role": "user", "content": [image]}], "background": background}
    error = check_shape(smollm2_server.post("/v1/responses", body), 400, "input[0].content[0]")
    assert error["message"].startswith("Vision requests are not supported")


def test_nothing_is_fetched_for_a_full_queue(launch: Callable[..., Server], pictures: str) -> None:
    server = launch(*SCRIPTED, "--private-media-urls", "--queue-size", 0, "--max-concurrency", 1)
    with RawClient(server, chat_body({"tokens": 1, "first_token_s": 60})):
        server.wait_stats(running_requests=1)
        # Its host would answer with 404, which would be a 400 here.
        refused = server.post("/v1/chat/completions", {"messages": show(f"{pictures}/none.png")})
    assert refused.status_code == 429, refused.text
