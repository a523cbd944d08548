"""Pictures over HTTP: OpenAI's and Anthropic's own clients against a model that knows shapes."""

import asyncio
import base64
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from shapes.draw import Scene, draw_scene
from support.documents import scanned
from support.films import film_file
from support.running.clients import async_sdk, sdk
from support.running.metrics import value
from support.running.servers import Server, serving
from support.tiny.sight import SHAPES, png

pytestmark = pytest.mark.model

GREEDY: dict[str, Any] = {"model": "m", "temperature": 0}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--model-path", SHAPES, "--model-type", "vlm", "--max-concurrency", 4) as server:
        yield server


def _scenes(seed: int, count: int) -> list[Scene]:
    rnd = random.Random(seed)
    return [draw_scene(rnd) for _ in range(count)]


def _data(scene: Scene) -> str:
    return base64.b64encode(png(scene.image())).decode()


def _user(text: str, *scenes: Scene) -> Any:
    pictures = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_data(s)}"}} for s in scenes]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": text}]}


def test_clients_of_all_apis_are_answered_about_pictures(server: Server) -> None:
    [scene] = _scenes(41, 1)
    shape = scene.shapes[0]
    with sdk(server) as client:
        chat = client.chat.completions.create(messages=[_user("What colour is the shape?", scene)], **GREEDY)
        assert chat.choices[0].message.content == shape.colour
        picture: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{_data(scene)}", "detail": "auto"}
        question: Any = {"type": "input_text", "text": "What shape is it?"}
        response = client.responses.create(input=[{"role": "user", "content": [picture, question]}], **GREEDY)
        assert response.output_text == shape.kind
    with anthropic.Anthropic(base_url=server.root, api_key="none", max_retries=0) as client:
        source: Any = {"type": "base64", "media_type": "image/png", "data": _data(scene)}
        content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What shape is it?"}]
        message = client.messages.create(
            messages=[{"role": "user", "content": content}], model="m", max_tokens=9, extra_body={"temperature": 0}
        )
        assert [block.text for block in message.content if block.type == "text"] == [shape.kind]


def test_a_film_is_answered_about(server: Server, tmp_path: Path) -> None:
    film = base64.b64encode(film_file(tmp_path / "a.mp4", [(250, 0, 0)] * 20)).decode()
    part: Any = {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{film}"}}
    with sdk(server) as client:
        asked: Any = [{"role": "user", "content": [part, {"type": "text", "text": "What colour is the shape?"}]}]
        chat = client.chat.completions.create(messages=asked, **GREEDY)
        assert chat.choices[0].message.content
        assert chat.usage
        assert chat.usage.prompt_tokens > 16, "a film takes tokens"
        part["video_url"]["url"] = "data:video/mp4;base64,AAAA"
        with pytest.raises(openai.BadRequestError, match="not a film this server can read"):
            client.chat.completions.create(messages=asked, **GREEDY)


def test_a_tools_picture_that_cannot_be_read_does_not_end_the_conversation(server: Server) -> None:
    """The model is told so; the pictures beside it are seen. The user's own is refused."""
    [scene] = _scenes(44, 1)
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgpub25zZW5zZQ=="}}
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asked = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [broken]},
        _user("What colour is the shape?", scene),
    ]
    answer = server.post("/v1/chat/completions", {"messages": asked, "temperature": 0})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-fields"] == "messages[2].content[0]"
    refused = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": [broken]}]})
    assert refused.json()["error"]["param"] == "messages[0].content[0]"


def _scan(*scenes: Scene) -> str:
    return base64.b64encode(scanned(*(scene.image(256) for scene in scenes))).decode()


def test_clients_of_all_apis_are_answered_about_a_scan(server: Server) -> None:
    [scene] = _scenes(47, 1)
    shape, file = scene.shapes[0], {"file_data": f"data:application/pdf;base64,{_scan(scene)}", "filename": "a.pdf"}
    with sdk(server) as client:
        asked: Any = [{"type": "file", "file": file}, {"type": "text", "text": "What shape is it?"}]
        chat = client.chat.completions.create(messages=[{"role": "user", "content": asked}], **GREEDY)
        assert chat.choices[0].message.content == shape.kind
        asked = [{"type": "input_file", **file}, {"type": "input_text", "text": "What colour is the shape?"}]
        assert client.responses.create(input=[{"role": "user", "content": asked}], **GREEDY).output_text == shape.colour
    with anthropic.Anthropic(base_url=server.root, api_key="none", max_retries=0) as client:
        source: Any = {"type": "base64", "media_type": "application/pdf", "data": _scan(scene)}
        content: Any = [{"type": "document", "source": source}, {"type": "text", "text": "What shape is it?"}]
        message = client.messages.create(
            messages=[{"role": "user", "content": content}], model="m", max_tokens=9, extra_body={"temperature": 0}
        )
        assert [block.text for block in message.content if block.type == "text"] == [shape.kind]


def _pdf_part(data: str) -> Any:
    return {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}", "filename": "a.pdf"}}


def _ask(server: Server, *messages: Any) -> Any:
    return server.post("/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 9})


def test_pages_count_among_a_requests_files(server: Server) -> None:
    scenes, question = _scenes(48, 17), {"type": "text", "text": "What shape is it?"}
    refused = _ask(server, {"role": "user", "content": [_pdf_part(_scan(*scenes)), question]})
    assert refused.status_code == 400
    assert "more than 16 pages of the PDF have no text" in refused.json()["error"]["message"]
    halves = [_pdf_part(_scan(*scenes[:9])), _pdf_part(_scan(*scenes[9:]))]
    refused = _ask(server, {"role": "user", "content": [*halves, question]})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages[0].content[1].file.file_data"
    assert "at most 16 files" in refused.json()["error"]["message"]


def test_pages_of_tools_make_room_for_the_users(server: Server) -> None:
    scenes = _scenes(49, 17)
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    answer = _ask(
        server,
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [_pdf_part(_scan(*scenes[:16]))]},
        {"role": "user", "content": [_pdf_part(_scan(scenes[16])), {"type": "text", "text": "What shape is it?"}]},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-fields"] == "messages[2].content[0].file.file_data"


def test_a_scan_where_no_picture_may_stand_is_refused(server: Server) -> None:
    [scene] = _scenes(50, 1)
    refused = _ask(server, {"role": "system", "content": [_pdf_part(_scan(scene))]}, {"role": "user", "content": "Hi"})
    assert refused.status_code == 400, refused.text
    assert "send its pages as pictures" in refused.json()["error"]["message"]


def test_a_streamed_answer_is_the_same(server: Server) -> None:
    [scene] = _scenes(42, 1)
    with sdk(server) as client:
        asked = {"messages": [_user("Describe the picture.", scene)], **GREEDY}
        whole = client.chat.completions.create(**asked).choices[0].message.content
        chunks = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole


def test_many_clients_at_once_are_answered_as_each_alone(server: Server) -> None:
    scenes = _scenes(43, 12)

    async def ask(client: openai.AsyncOpenAI, scene: Scene) -> str | None:
        made = await client.chat.completions.create(messages=[_user("Describe the picture.", scene)], **GREEDY)
        return made.choices[0].message.content

    async def scenario() -> None:
        async with async_sdk(server) as client:
            together = await asyncio.gather(*(ask(client, scene) for scene in scenes))
            assert together == [await ask(client, scene) for scene in scenes]
        assert len(set(together)) > 6

    asyncio.run(scenario())


def test_a_picture_of_an_earlier_turn_is_not_looked_at_again(server: Server) -> None:
    [scene] = _scenes(44, 1)
    encoded, cached = value(server, "media_encoded_total"), value(server, "media_cached_total")
    messages = [_user("Describe the picture.", scene)]
    with sdk(server) as client:
        first = client.chat.completions.create(messages=messages, **GREEDY)
        messages += [{"role": "assistant", "content": first.choices[0].message.content}, _user("What shape is it?")]
        second = client.chat.completions.create(messages=messages, **GREEDY)
    assert value(server, "media_encoded_total") == encoded + 1
    assert value(server, "media_cached_total") == cached + 1
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.total_tokens


def test_what_one_key_has_said_is_not_reused_for_another(server: Server) -> None:
    messages = [_user("Describe the picture in a few words, please.", *_scenes(45, 1))]

    def cached(key: str) -> int:
        with openai.OpenAI(base_url=server.url, api_key=key, max_retries=0) as client:
            usage = client.chat.completions.create(messages=messages, **GREEDY).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        return usage.prompt_tokens_details.cached_tokens or 0

    assert cached("one") == 0
    assert cached("other") == 0
    assert cached("one") > 0


def test_a_prompt_with_a_picture_is_not_scored(server: Server) -> None:
    [scene] = _scenes(46, 1)
    with sdk(server) as client, pytest.raises(openai.BadRequestError, match="with pictures") as caught:
        client.chat.completions.create(
            model="m", messages=[_user("What?", scene)], max_tokens=1, extra_body={"prompt_logprobs": 1}
        )
    assert caught.value.param == "prompt_logprobs"
