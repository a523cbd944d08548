"""Whatever a model does, in whatever pieces: three APIs' streams come to the same answer, as their SDKs read them."""

import json
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter
from support.answers import HEAD
from support.responses import stream

from mlx_server.app.encoders.anthropic import MessagesEncoder
from mlx_server.app.encoders.openai_chat import ChatEncoder
from mlx_server.app.encoders.openai_responses import ResponsesEncoder
from mlx_server.app.http.responder import Encoder
from mlx_server.schemas.anthropic import requests as anthropic
from mlx_server.schemas.internal.messages import Finished, Part, Reasoning, Started, Text, ToolCall
from mlx_server.schemas.openai import chat, responses
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.openai.responses import Turn
from mlx_server.schemas.parsing.parse import parse

STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
MESSAGES = [{"role": "user", "content": "a"}]
FUNCTION = {"name": "f", "parameters": {"type": "object"}}

Events = list[Part | Finished]


class Said(NamedTuple):
    """An answer, whatever API told it: what was thought, what was written, and each call's arguments."""

    thoughts: str
    text: str
    calls: list[dict[str, Any]]


def pieces(text: str, cuts: list[int]) -> list[str]:
    """A text cut at some of its places."""
    places = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
stretches = st.tuples(st.sampled_from(["thought", "text", "call"]), texts, st.lists(st.integers(0, 40), max_size=4))


@st.composite
def answers(draw: st.DrawFn) -> tuple[Events, list[int]]:
    """A valid sequence of events, and how many of them come with each write to the client; the rest with the last."""
    events: Events = []
    calls = 0
    for kind, text, cuts in draw(st.lists(stretches, max_size=6)):
        match kind:
            case "thought":
                events += [Reasoning(1, 0, piece, 1) for piece in pieces(text, cuts)]
            case "text":
                events += [Text(1, 0, piece, 1) for piece in pieces(text, cuts)]
            case _:
                events.append(ToolCall(1, 0, calls, "", 1, f"call_{calls}", "f"))
                arguments = pieces(json.dumps({"a": text}, ensure_ascii=False), cuts)
                events += [ToolCall(1, 0, calls, piece, 1) for piece in arguments]
                calls += 1
    events.append(Finished(1, 0, "tool_calls" if calls else "stop", 9, 4, len(events), 0))
    return events, draw(st.lists(st.integers(1, 5), max_size=8))


def sent(encoder: Encoder, events: Events, sizes: list[int]) -> bytes:
    """The whole stream, with so many events in each write."""
    told, left = encoder.begin(Started(1, 0, 9, 4)), list(events)
    for size in sizes:
        told, left = told + (encoder.events(left[:size]) if left[:size] else b""), left[size:]
    return told + (encoder.events(left) if left else b"") + encoder.end()


def by_chat(events: Events, sizes: list[int]) -> Said:
    """As OpenAI's SDK puts a stream of chunks together."""
    tools = [{"type": "function", "function": FUNCTION}]
    body = json.dumps({"messages": MESSAGES, "tools": tools, "stream": True}).encode()
    state = ChatCompletionStreamState()
    for block in sent(ChatEncoder(HEAD, parse(body, chat.decoder, HARMLESS)[0]), events, sizes).decode().split("\n\n"):
        if block.startswith("data: {"):
            state.handle_chunk(ChatCompletionChunk.model_validate_json(block.removeprefix("data: "), strict=True))
    message: Any = state.get_final_completion().choices[0].message
    calls = [json.loads(call.function.arguments) for call in message.tool_calls or []]
    return Said(getattr(message, "reasoning_content", None) or "", message.content or "", calls)


def by_messages(events: Events, sizes: list[int]) -> Said:
    """As Anthropic's SDK puts a stream of events together."""
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    asked = anthropic.decoder.decode(json.dumps({"max_tokens": 8, "messages": MESSAGES, "tools": tools}))
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for block in sent(MessagesEncoder(HEAD, asked), events, sizes).decode().split("\n\n"):
        data = block.partition("data: ")[2]
        if data and json.loads(data)["type"] != "ping":
            event = STREAM_EVENT.validate_json(data)
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    blocks = snapshot.content
    return Said(
        "".join(block.thinking for block in blocks if block.type == "thinking"),
        "".join(block.text for block in blocks if block.type == "text"),
        [block.input for block in blocks if block.type == "tool_use"],
    )


def by_responses(events: Events, sizes: list[int]) -> Said:
    """As the last event of a stream of responses has it, after all of them were parsed."""
    tools = [{"type": "function", **FUNCTION}]
    body = json.dumps({"input": "a", "tools": tools}).encode()
    turn = Turn(parse(body, responses.decoder, responses.HARMLESS)[0])
    output = stream(sent(ResponsesEncoder(HEAD, turn, lambda _: None, store=True), events, sizes))[-1].response.output
    return Said(
        "".join(part.text for item in output if item.type == "reasoning" for part in item.content or []),
        "".join(part.text for item in output if item.type == "message" for part in item.content),
        [json.loads(item.arguments) for item in output if item.type == "function_call"],
    )


@pytest.mark.parametrize("read", [by_chat, by_messages, by_responses])
@given(answer=answers())
@settings(max_examples=150, deadline=None)
def test_a_stream_is_the_answer_however_it_is_cut(read: Any, answer: tuple[Events, list[int]]) -> None:
    events, sizes = answer
    arguments: dict[int, str] = {}
    for event in events:
        if isinstance(event, ToolCall):
            arguments[event.call] = arguments.get(event.call, "") + event.arguments
    assert read(events, sizes) == Said(
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        "".join(event.text for event in events if isinstance(event, Text)),
        [json.loads(text) for text in arguments.values()],
    )
