"""OpenAI's Python SDK as the client: what it asks it gets, and what it is refused it understands."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from support.documents import pdf
from support.running.clients import async_sdk, sdk
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body
from support.running.streams import DONE, open_stream, read_stream, stream_chat, text_of

FRANCE = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
MODEL = "any-name/will-do"


@pytest.fixture
def client(smollm2_server: Server) -> Iterator[openai.OpenAI]:
    with sdk(smollm2_server) as client:
        yield client


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.model
def test_chat_answers(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=ask(FRANCE), temperature=0, max_tokens=20)
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.model) == ("chat.completion", MODEL)
    [choice] = completion.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", ANSWER)
    usage = completion.usage
    # Seven tokens of text and the one that ends the turn.
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (37, 8, 45)
    assert 0 <= (usage.prompt_tokens_details.cached_tokens or 0) < usage.prompt_tokens


@pytest.mark.model
def test_files_are_read(client: openai.OpenAI) -> None:
    data = "data:application/pdf;base64," + base64.b64encode(pdf("Paris is the capital", "of France")).decode()
    file = {"file_data": data, "filename": "cities.pdf"}
    text = '<document title="cities.pdf">\nParis is the capital\n\nof France\n</document>\n' + FRANCE
    how: dict[str, Any] = {"model": MODEL, "temperature": 0}
    chats: list[Any] = [[{"type": "file", "file": file}, {"type": "text", "text": FRANCE}], text]
    shown, told = (
        client.chat.completions.create(**how, max_tokens=10, messages=[{"role": "user", "content": content}])
        for content in chats
    )
    assert (shown.choices[0].message.content, shown.usage.prompt_tokens) == (
        told.choices[0].message.content,
        told.usage.prompt_tokens,
    )
    parts: Any = [{"type": "input_file", **file}, {"type": "input_text", "text": FRANCE}]
    asked: Any = [{"role": "user", "content": parts}]
    first = client.responses.create(**how, max_output_tokens=10, input=asked)
    assert first.output_text == told.choices[0].message.content
    assert client.responses.input_tokens.count(input=asked).input_tokens == told.usage.prompt_tokens
    # It is read again with each turn.
    second = client.responses.create(**how, max_output_tokens=2, input="Sure?", previous_response_id=first.id)
    assert second.usage.input_tokens > told.usage.prompt_tokens
    for bad, why in (("iVBORw0KGgoA", "neither a PDF nor a text"), ("%", "nor base64")):
        parts = [{"type": "input_file", "file_data": bad}]
        with pytest.raises(openai.BadRequestError, match=rf"input\[0\].content\[0\].file_data.*{why}"):
            client.responses.create(**how, input=[{"role": "user", "content": parts}])


@pytest.mark.model
def test_chat_stream_begins_with_the_role_and_ends_with_a_reason(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=ask(FRANCE), temperature=0, max_tokens=20, stream=True
    )
    chunks = list(stream)
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert (chunks[0].choices[0].delta.role, chunks[0].choices[0].delta.content) == ("assistant", "")
    assert [chunk.choices[0].delta.role for chunk in chunks[1:]] == [None] * (len(chunks) - 1)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert said(chunks) == ANSWER
    assert all(chunk.usage is None for chunk in chunks)


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.model
def test_usage_comes_last_in_a_stream_that_asks_for_it(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=ask(FRANCE),
        temperature=0,
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = stream
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (37, 8, 45)
    assert 0 <= (last.usage.prompt_tokens_details.cached_tokens or 0) < last.usage.prompt_tokens


def counts(usage: Any) -> tuple[int, int, int]:
    """What an answer counts, however many of its tokens were guessed."""
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


@pytest.mark.model
def test_text_completion_answers_whole_and_streamed(client: openai.OpenAI) -> None:
    prompt = "The capital of France is"
    whole = client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=5)
    assert whole.id.startswith("cmpl-")
    assert (whole.object, whole.model) == ("text_completion", MODEL)
    assert whole.choices[0].text.startswith(" Paris")
    assert whole.choices[0].finish_reason == "length"
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (5, 5)
    chunks = list(
        client.completions.create(
            model=MODEL,
            prompt=prompt,
            temperature=0,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert counts(chunks[-1].usage) == counts(whole.usage)


@pytest.mark.model
def test_async_client_is_answered_four_times_at_once(smollm2_server: Server) -> None:
    async def four() -> list[str]:
        async with async_sdk(smollm2_server) as client:

            async def whole() -> str:
                completion = await client.chat.completions.create(
                    model=MODEL, messages=ask(FRANCE), temperature=0, max_tokens=20
                )
                return completion.choices[0].message.content

            async def streamed() -> str:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=ask(FRANCE), temperature=0, max_tokens=20, stream=True
                )
                return said([chunk async for chunk in stream])

            async def completed() -> str:
                completion = await client.completions.create(
                    model=MODEL, prompt="The capital of France is", temperature=0, max_tokens=1
                )
                return completion.choices[0].text

            async def completed_in_a_stream() -> str:
                stream = await client.completions.create(
                    model=MODEL, prompt="The capital of France is", temperature=0, max_tokens=1, stream=True
                )
                return "".join([chunk.choices[0].text async for chunk in stream])

            return await asyncio.gather(whole(), streamed(), completed(), completed_in_a_stream())

    assert asyncio.run(four()) == [ANSWER, ANSWER, " Paris", " Paris"]


@pytest.mark.model
def test_limit_of_tokens_ends_with_length(client: openai.OpenAI) -> None:
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": 3}):
        completion = client.chat.completions.create(model=MODEL, messages=ask(FRANCE), temperature=0, **limit)
        assert completion.choices[0].message.content == "The capital of"
        assert completion.choices[0].finish_reason == "length"
        assert completion.usage.completion_tokens == 3


STOPS: list[tuple[str | list[str], str]] = [
    (" Paris", "The capital of France is"),
    ("tal of Fra", "The capi"),
    (["nothing", "ance is P", "Paris"], "The capital of Fr"),
    ("The", ""),
    ("Paris!", ANSWER),
]


@pytest.mark.model
def test_stop_strings_cut_the_text_across_token_borders(smollm2_server: Server) -> None:
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 20}

    def stream(stop: str | list[str]) -> tuple[str, str]:
        *chunks, finish, done = stream_chat(smollm2_server, FRANCE, stop=stop, **asked)
        assert done == DONE
        return text_of(chunks), finish["choices"][0]["finish_reason"]

    def whole(stop: str | list[str]) -> tuple[str, str]:
        [choice] = smollm2_server.chat(FRANCE, stop=stop, **asked).json()["choices"]
        return choice["message"]["content"], choice["finish_reason"]

    with ThreadPoolExecutor(len(STOPS)) as pool:
        streamed = pool.map(stream, [stop for stop, _ in STOPS])
        complete = pool.map(whole, [stop for stop, _ in STOPS[1:3]])
        assert list(streamed) == [(kept, "stop") for _, kept in STOPS]
        assert list(complete) == [(kept, "stop") for _, kept in STOPS[1:3]]


@pytest.mark.model
def test_stop_string_at_the_limit_of_tokens_counts(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=ask(FRANCE), temperature=0, max_tokens=6, stop="Paris"
    )
    assert completion.choices[0].message.content == "The capital of France is "
    assert completion.choices[0].finish_reason == "stop"


@pytest.mark.model
def test_message_objects_can_be_sent_back(client: openai.OpenAI) -> None:
    messages = ask(FRANCE)
    first = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=20)
    messages.append(first.choices[0].message)
    messages.append(
        {"role": "user", "content": [{"type": "text", "text": "And of "}, {"type": "text", "text": "Italy?"}]}
    )
    second = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=20)
    assert "Rome" in second.choices[0].message.content
    assert second.usage.prompt_tokens > first.usage.total_tokens


@pytest.mark.model
def test_raw_response_has_its_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=ask(FRANCE), max_tokens=1, extra_headers={"X-Request-Id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.parse().choices[0].message.role == "assistant"
    assert client.chat.completions.create(model=MODEL, messages=ask(FRANCE), max_tokens=1)._request_id


@pytest.mark.model
def test_models_are_listed_and_retrieved(client: openai.OpenAI, smollm2: object) -> None:
    [model] = client.models.list().data
    assert (model.object, model.owned_by) == ("model", "mlx-server")
    listed, retrieved = model.model_dump(), client.models.retrieve(model.id).model_dump()
    # MLX-GUI's names for the kind of model and for when it came into the registry.
    listed |= {"type": "text", "created_at": retrieved["created_at"]}
    assert listed.items() <= retrieved.items(), "all that the list says, and more"


def test_stream_ends_with_done_and_its_shape_is_the_documented_one(scripted_server: Server) -> None:
    role, *texts, finish, done = stream_chat(scripted_server, "one two three")
    assert done == DONE
    assert len(texts) == 3
    assert role["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}
    ]
    for text in texts:
        assert {"id", "object", "created", "model", "choices"} <= text.keys()
        assert "usage" not in text
        assert text["choices"] == [
            {"index": 0, "delta": {"content": "token "}, "finish_reason": None, "logprobs": None}
        ]
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length", "logprobs": None}]


def test_chunks_before_the_usage_have_it_as_null(scripted_server: Server) -> None:
    for path, body in (("/v1/chat/completions", chat_body("a b")), ("/v1/completions", {"prompt": "a b"})):
        events = read_stream(scripted_server, {**body, "stream_options": {"include_usage": True}}, path)
        *chunks, usage, done = events
        assert done == DONE
        assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
        assert usage["choices"] == []
        assert usage["usage"] == {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def test_tokens_come_as_they_are_made(scripted_server: Server) -> None:
    with RawClient(scripted_server, chat_body({"tokens": 2, "interval_s": 60}, stream=True)) as client:
        assert b"token " in client.read_until(b"token ")


def test_whole_answer_has_the_documented_shape(scripted_server: Server) -> None:
    body = scripted_server.chat("one two").json()
    assert body.keys() == {"id", "object", "created", "model", "choices", "usage", "system_fingerprint"}
    assert body["model"] == "scripted"
    assert isinstance(body["created"], int)
    message = {"role": "assistant", "content": "token token ", "refusal": None}
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": "length", "logprobs": None}]


def test_model_may_be_missing_or_null(scripted_server: Server) -> None:
    for more in ({}, {"model": None}, {"model": ""}):
        assert scripted_server.chat("hi", **more).json()["model"] == "scripted"
        assert scripted_server.complete("hi", **more).json()["model"] == "scripted"


def test_bad_request_names_the_field(scripted_server: Server) -> None:
    with sdk(scripted_server) as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=ask("hi"), temperature=9)
    error = caught.value
    assert (error.type, error.param, error.code) == ("invalid_request_error", "temperature", None)
    assert error.body == {
        "message": "`temperature`: Expected `float` <= 2.0.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": None,
    }
    assert error.request_id


def test_unsupported_parameter_is_a_bad_request(scripted_server: Server) -> None:
    with sdk(scripted_server) as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=ask("hi"), modalities=["text", "audio"])
    assert (caught.value.param, caught.value.code) == ("modalities", "unsupported_parameter")


def test_full_queue_is_a_rate_limit(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 0)
    with RawClient(server, chat_body({"first_token_s": 60})), sdk(server) as client:
        server.wait_stats(running_requests=1)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=MODEL, messages=ask("hi"))
    assert caught.value.body["message"] == "Too many requests. Service is at capacity."
    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "queue_full")
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_failing_engine_is_a_server_error(scripted_server: Server) -> None:
    with sdk(scripted_server) as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=MODEL, messages=ask(json.dumps({"raise_at": 1})))
    assert caught.value.status_code == 500
    assert caught.value.body["message"] == "Failed to generate response: the script says so"


def test_client_may_lose_its_patience(scripted_server: Server) -> None:
    with sdk(scripted_server, timeout=0.3) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model=MODEL, messages=ask(json.dumps({"first_token_s": 60})))
    scripted_server.wait_stats(active_requests=0, timeout_s=5)


def test_error_in_a_stream_is_raised(scripted_server: Server) -> None:
    with sdk(scripted_server) as client:
        stream = client.chat.completions.create(
            model=MODEL, messages=ask(json.dumps({"tokens": 9, "raise_at": 3})), stream=True
        )
        chunks: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError, match="Failed to generate response: the script says so") as caught:
            chunks.extend(stream)
    assert said(chunks) == "token token "
    assert caught.value.body["type"] == "server_error"
    assert caught.value.code == "engine_error"


def test_streams_of_text_completions_fail_as_honestly(scripted_server: Server) -> None:
    body = {"prompt": json.dumps({"tokens": 9, "raise_at": 2})}
    *texts, error = read_stream(scripted_server, body, "/v1/completions")
    assert text_of(texts) == "token "
    assert error["error"]["message"] == error["detail"] == "Failed to generate response: the script says so"


def test_refused_stream_is_a_status_code(scripted_server: Server) -> None:
    with open_stream(scripted_server, chat_body({"raise_at": 1})) as response:
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/json"
