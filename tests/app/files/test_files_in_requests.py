"""A file that is kept here, named by its id: the same as if it had been sent, on every API, for its owner alone."""

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from support.batches import ended, line, results, submit
from support.documents import pdf
from support.running.clients import sdk
from support.running.servers import ROOT, Server, serving

PICTURE = (ROOT / "examples" / "data" / "red_circle.png").read_bytes()
CIRCLE = "a red circle at the top left"
ASKED = "Describe the picture."
KEY = "one"
PAPER = pdf("red blue green", "circle square")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    keys = (part for key in (KEY, "another") for part in ("--api-key", key))
    with serving("--model-path", ROOT / "tests" / "shapes" / "model", *keys) as server:
        server.http.headers["x-api-key"] = KEY
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with sdk(server, api_key=KEY) as client:
        yield client


@pytest.fixture(scope="module")
def picture(client: openai.OpenAI) -> str:
    return client.files.create(file=("circle.png", PICTURE), purpose="vision").id


@pytest.fixture(scope="module")
def paper(client: openai.OpenAI) -> str:
    return client.files.create(file=("paper.pdf", PAPER), purpose="user_data").id


def chat(client: openai.OpenAI, part: Any) -> Any:
    content: Any = [part, {"type": "text", "text": ASKED}]
    messages: Any = [{"role": "user", "content": content}]
    return client.chat.completions.create(model="any", messages=messages, temperature=0, max_tokens=12)


def respond(client: openai.OpenAI, part: Any) -> Any:
    content: Any = [part, {"type": "input_text", "text": ASKED}]
    items: Any = [{"type": "message", "role": "user", "content": content}]
    return client.responses.create(model="any", input=items, temperature=0, max_output_tokens=12)


@pytest.mark.parametrize("part", ["image_url", "input_image"])
def test_chat_sees_a_kept_picture(client: openai.OpenAI, picture: str, part: str) -> None:
    shown = {"type": part, **({"file_id": picture} if part == "input_image" else {part: {"file_id": picture}})}
    assert chat(client, shown).choices[0].message.content == CIRCLE


def test_response_sees_a_kept_picture(client: openai.OpenAI, picture: str) -> None:
    answer = respond(client, {"type": "input_image", "file_id": picture})
    assert answer.output_text == CIRCLE
    followed = client.responses.create(model="any", input=ASKED, previous_response_id=answer.id, temperature=0)
    assert followed.status == "completed"


def test_message_of_anthropics_sees_a_kept_picture(server: Server, picture: str) -> None:
    content: Any = [{"type": "image", "source": {"type": "file", "file_id": picture}}, {"type": "text", "text": ASKED}]
    with anthropic.Anthropic(base_url=server.root, api_key=KEY) as client:
        answer = client.messages.create(
            model="any", max_tokens=12, extra_body={"temperature": 0}, messages=[{"role": "user", "content": content}]
        )
    assert answer.content[0].text == CIRCLE  # type: ignore[union-attr]


def test_kept_document_is_what_a_sent_one_is(client: openai.OpenAI, paper: str) -> None:
    data = f"data:application/pdf;base64,{base64.b64encode(PAPER).decode()}"
    sent, kept = (chat(client, {"type": "file", "file": file}) for file in ({"file_data": data}, {"file_id": paper}))
    assert kept.usage.prompt_tokens == sent.usage.prompt_tokens > 10
    assert kept.choices[0].message.content == sent.choices[0].message.content
    told, named = (
        respond(client, {"type": "input_file", **file}) for file in ({"file_data": data}, {"file_id": paper})
    )
    assert named.usage.input_tokens == told.usage.input_tokens
    assert named.output_text == told.output_text


def test_line_of_a_batch_may_name_a_file(client: openai.OpenAI, picture: str) -> None:
    content = [{"type": "input_image", "file_id": picture}, {"type": "text", "text": ASKED}]
    body = {"model": "any", "messages": [{"role": "user", "content": content}], "temperature": 0}
    [found] = results(client, ended(client, submit(client, [line("a", body)]).id).output_file_id)
    assert found["response"]["body"]["choices"][0]["message"]["content"] == CIRCLE


def test_file_of_somebody_else_is_none(server: Server, picture: str) -> None:
    with sdk(server, api_key="another") as other:
        with pytest.raises(openai.BadRequestError, match=f"there is no file '{picture}'") as raised:
            chat(other, {"type": "input_image", "file_id": picture})
        assert raised.value.param == "messages[0].content[0].file_id"
        with pytest.raises(openai.BadRequestError, match="there is no file"):
            respond(other, {"type": "input_file", "file_id": picture})
