"""Conversations of `/v1/responses` that get shorter: by a summary, or without their oldest turns."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import CompactedResponse
from starlette.exceptions import HTTPException
from support.responses import response, stream, strict
from support.running.clients import sdk
from support.running.servers import Server, serving
from support.tiny.models import make_model

from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_responses_compact import CompactEncoder, SummaryEncoder
from mlx_server.schemas.internal.messages import Finished, Part, Reasoning, Text
from mlx_server.schemas.internal.sealed import unsealed
from mlx_server.schemas.internal.summary import PREFACE
from mlx_server.schemas.openai.responses import decoder
from mlx_server.schemas.openai.responses_compact import Compaction, CompactRequest, TriggeredSummary

RESPONSES = "/v1/responses"
COMPACT = f"{RESPONSES}/compact"
CONTEXT = 1024


def talk(*texts: str) -> list[dict[str, str]]:
    """The user's words and the model's, in turns."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def ask(client: openai.OpenAI, given: Any) -> Any:
    return client.responses.create(model="m", input=given, max_output_tokens=5)


def test_compaction_has_what_the_user_said_and_a_summary_of_the_rest(scripted_server: Server) -> None:
    sent = [{"role": "developer", "content": "Be brief."}, *talk("one two", "three", "four")]
    answer = scripted_server.post(COMPACT, {"model": "m", "input": sent, "prompt_cache_key": "a", "tools": []})
    # The SDK takes the user's words for a model's, as it does with what OpenAI's own server answers.
    last = answer.json()["output"][-1]
    compacted = strict(CompactedResponse, {**answer.json(), "output": [last]})
    output = answer.json()["output"]
    assert [item["type"] for item in output] == ["message", "message", "compaction"]
    assert [item["content"][0]["text"] for item in output[:2]] == ["one two", "four"]
    assert compacted.usage.output_tokens > 0


def test_conversation_goes_on_from_a_summary(smollm2_server: Server) -> None:
    with sdk(smollm2_server) as client:
        said: Any = talk("My name is Ada and I live in Paris.", "Nice to meet you, Ada.")
        first = client.responses.create(model="m", input=said, max_output_tokens=5)
        compacted = client.responses.compact(
            model="m", previous_response_id=first.id, extra_body={"max_output_tokens": 20}
        )
        items: Any = [item.to_dict(warnings=False) for item in compacted.output]
        second = client.responses.create(model="m", input=[*items, *talk("Who am I?")], max_output_tokens=5)
        kept = client.responses.input_items.list(second.id, order="asc").data
        assert [item.type for item in kept] == ["message", "compaction", "message"]
        again = client.responses.create(
            model="m", input="And where?", previous_response_id=second.id, max_output_tokens=5
        )
        bare: Any = ask(client, talk(said[0]["content"], "", "Who am I?")[::2])
        assert second.usage is not None
        # The model reads the summary, which it wrote itself.
        assert second.usage.input_tokens >= bare.usage.input_tokens + compacted.usage.output_tokens
        assert again.status in ("completed", "incomplete")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (COMPACT, {"input": "a"}, "model"),
        (COMPACT, {"model": "m", "input": []}, "input"),
        (COMPACT, {"model": "m", "input": "a", "previous_response_id": "resp_0"}, "previous_response_id"),
        (RESPONSES, {"input": [{"type": "compaction"}]}, "input[0].encrypted_content"),
        (RESPONSES, {"input": "a", "truncation": "some"}, "truncation"),
    ],
)
def test_bad_request_names_the_field(scripted_server: Server, path: str, body: Any, param: str) -> None:
    answer = scripted_server.post(path, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("path", [COMPACT, f"{RESPONSES}/input_tokens"])
def test_what_only_responses_do_is_named(scripted_server: Server, path: str) -> None:
    asked = {"model": "m", "input": "a", "stream": True, "background": True, "store": True}
    answer = scripted_server.post(path, asked)
    assert answer.json()["object"].startswith("response.")
    assert answer.headers["x-ignored-fields"] == "background, store, stream"


def written(*parts: Part) -> dict[str, Any]:
    asked = Compaction(CompactRequest(model="m", input="Hello"))
    encoded = CompactEncoder(Head("1", 1000, "m"), asked).whole([*parts, Finished(1, 0, "stop", 9, 0, 5)])
    return dict(json.loads(encoded))


def test_summary_is_what_the_model_said_or_else_thought() -> None:
    for parts in ([Reasoning(1, 0, "thoughts", 1), Text(1, 0, " said ", 1)], [Text(1, 0, " said ", 1)]):
        sealed = written(*parts)["output"][-1]["encrypted_content"]
        assert unsealed(sealed) == f"{PREFACE}said"
    sealed = written(Reasoning(1, 0, "thoughts", 1), Text(1, 0, " ", 1))["output"][-1]["encrypted_content"]
    assert unsealed(sealed) == f"{PREFACE}thoughts"
    with pytest.raises(HTTPException, match="no summary"):
        written(Text(1, 0, " ", 1))


TRIGGER = {"type": "compaction_trigger"}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_input_that_ends_with_a_trigger_makes_a_summary(scripted_server: Server, streamed: bool) -> None:
    asked = {"input": [*talk("one two", "three"), TRIGGER], "stream": streamed}
    answer = scripted_server.post(RESPONSES, asked)
    assert "x-ignored-fields" not in answer.headers
    events = stream(answer.content) if streamed else []
    made = events[-1].response if streamed else response(answer.content)
    if streamed:
        kinds = ("created", "in_progress", "output_item.added", "output_item.done", "completed")
        assert [event.type for event in events] == [f"response.{kind}" for kind in kinds]
        assert events[2].item == events[3].item == made.output[0]
    [item] = made.output
    assert (made.status, item.type) == ("completed", "compaction")
    assert (unsealed(item.encrypted_content) or "").startswith(f"{PREFACE}token")
    with sdk(scripted_server) as client:
        kept = client.responses.input_items.list(made.id, order="asc").data
        assert [one.content[0].text for one in kept] == ["one two", "three"]  # type: ignore[union-attr]
        assert client.responses.retrieve(made.id).output == made.output


def test_trigger_before_the_end_is_left_out_and_named(scripted_server: Server) -> None:
    answer = scripted_server.post(RESPONSES, {"input": [TRIGGER, *talk("one")]})
    assert [item.type for item in response(answer.content).output] == ["message"]
    assert answer.headers["x-ignored-fields"] == "input[0].compaction_trigger"


@pytest.mark.model
def test_response_goes_on_from_a_summary_without_what_that_stands_for(smollm2_server: Server) -> None:
    with sdk(smollm2_server) as client:
        said: Any = [*talk("My name is Ada.", "Nice to meet you, Ada. " * 50), TRIGGER]
        summary = client.responses.create(model="m", input=said, max_output_tokens=20)
        after = client.responses.create(
            model="m", input="Who am I?", previous_response_id=summary.id, max_output_tokens=1
        )
        items: Any = [said[0], summary.output[0].to_dict(), *talk("Who am I?")]
        counted = client.responses.input_tokens.count(model="m", input=items)
        assert after.usage is not None
        assert after.usage.input_tokens == counted.input_tokens


def test_summary_that_says_nothing_is_a_failure() -> None:
    def encoder() -> SummaryEncoder:
        turn = TriggeredSummary(decoder.decode(json.dumps({"input": [*talk("Hello"), TRIGGER]})))
        return SummaryEncoder(Head("1", 1000, "m"), turn, lambda _: None, store=False)

    nothing: list[Part | Finished] = [Text(1, 0, " ", 1), Finished(1, 0, "stop", 9, 0, 5)]
    with pytest.raises(HTTPException, match="no summary"):
        encoder().whole(nothing)
    streaming = encoder()
    events = stream(streaming.begin() + streaming.events(nothing) + streaming.end())
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model has a short context."""
    folder: Path = make_model(tmp_path_factory.mktemp("narrow"), "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": CONTEXT}))
    with serving("--model-path", folder, "--max-concurrency", 2) as server:
        yield server


LONG = talk("the quick brown fox " * 200, "jumps", "over the lazy dog " * 200, "again", "the fox")


@pytest.mark.model
@pytest.mark.parametrize("stream", [False, True])
def test_oldest_turns_are_left_out_where_that_is_allowed(narrow: Server, stream: bool) -> None:
    asked = {"input": LONG, "truncation": "auto", "max_output_tokens": 2, "stream": stream}
    answer = narrow.post(RESPONSES, asked)
    assert (answer.status_code, answer.headers["x-dropped-messages"]) == (200, "2")
    if not stream:
        told = response(answer.content)
        assert told.truncation == "auto"
        assert told.usage is not None
        short = response(narrow.post(RESPONSES, {**asked, "input": LONG[2:]}).content)
        assert short.usage is not None
        assert told.usage.input_tokens == short.usage.input_tokens
        with sdk(narrow) as client:
            given: Any = LONG
            count = client.responses.input_tokens.count(input=given, truncation="auto")
            assert count.input_tokens == told.usage.input_tokens


@pytest.mark.model
def test_nothing_is_left_out_that_fits_or_unless_it_is_allowed(narrow: Server) -> None:
    answer = narrow.post(RESPONSES, {"input": LONG[4:], "truncation": "auto", "max_output_tokens": 2})
    assert "x-dropped-messages" not in answer.headers
    with sdk(narrow) as client:
        for truncation in ("disabled", None):
            given: Any = {"input": LONG, "truncation": truncation}
            with pytest.raises(openai.BadRequestError) as caught:
                client.responses.create(model="m", **given)
            assert caught.value.code == "context_length_exceeded"


@pytest.mark.model
def test_conversation_that_overflows_can_still_be_summarised(narrow: Server) -> None:
    answer = narrow.post(COMPACT, {"model": "m", "input": LONG, "max_output_tokens": 8})
    assert (answer.status_code, answer.headers["x-dropped-messages"]) == (200, "4")
    assert [item["type"] for item in answer.json()["output"]] == ["message"] * 3 + ["compaction"]
