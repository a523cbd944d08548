"""OpenAI's SDK on `/v1/conversations`, on items that are referred to by their ids, and on the count of their tokens."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types.conversations import Conversation, ConversationDeletedResource, ConversationItemList
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from support.responses import strict
from support.running.clients import CONFIGURED, sdk
from support.running.servers import SCRIPTED, Server

HEADERS = {"authorization": f"Bearer {CONFIGURED['api_key']}"}
PATH = "/v1/conversations"


@pytest.fixture
def client(scripted_server: Server) -> Iterator[openai.OpenAI]:
    with sdk(scripted_server) as client:
        yield client


def user(text: str, **more: Any) -> Any:
    return {"type": "message", "role": "user", "content": text, **more}


def said(client: openai.OpenAI, conversation: str) -> list[str]:
    return [item.content[0].text for item in client.conversations.items.list(conversation, order="asc")]  # type: ignore


def test_conversation_is_what_the_sdks_types_say(scripted_server: Server) -> None:
    def call(method: str, path: str = "", body: Any = None) -> Any:
        answer = scripted_server.http.request(method, f"{scripted_server.root}{PATH}{path}", json=body, headers=HEADERS)
        assert answer.status_code == 200, answer.text
        return answer.json()

    made = strict(Conversation, call("POST", "", {"items": [user("a"), user("b")], "metadata": {"x": "1"}}))
    assert (made.object, made.metadata) == ("conversation", {"x": "1"})
    at = f"/{made.id}"
    assert strict(Conversation, call("GET", at)) == made
    assert strict(Conversation, call("POST", at, {"metadata": {"x": "2"}})).metadata == {"x": "2"}
    items = strict(ConversationItemList, call("GET", f"{at}/items"))
    assert [item.content[0].text for item in items.data] == ["b", "a"]
    added = strict(ConversationItemList, call("POST", f"{at}/items", {"items": [user("c")]}))
    assert call("GET", f"{at}/items/{added.first_id}") == added.data[0].to_dict()
    assert strict(Conversation, call("DELETE", f"{at}/items/{added.first_id}")).id == made.id
    gone = strict(ConversationDeletedResource, call("DELETE", at))
    assert (gone.id, gone.deleted) == (made.id, True)


def test_response_goes_on_from_its_conversation_and_adds_to_it(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[user("one")])
    given: tuple[Any, ...] = (conversation.id, {"id": conversation.id})
    for text, how in zip(("two", "three"), given, strict=True):
        answer = client.responses.create(model="m", input=text, conversation=how)
        assert answer.conversation is not None
        assert answer.conversation.id == conversation.id
    *_, last = client.responses.create(model="m", input="four", conversation=conversation.id, stream=True)
    unstored = client.responses.create(model="m", input="five", conversation=conversation.id, store=False)
    token = "token "
    assert said(client, conversation.id) == ["one", "two", token, "three", token, "four", token, "five", token]
    ids = [item.id for item in client.conversations.items.list(conversation.id)]
    assert ids[0] == unstored.output[0].id
    assert last.response.output[0].id in ids


def test_response_in_the_background_adds_to_its_conversation(client: openai.OpenAI, scripted_server: Server) -> None:
    conversation = client.conversations.create()
    begun = client.responses.create(model="m", input="one", conversation=conversation.id, background=True)
    scripted_server.wait_until(lambda: client.responses.retrieve(begun.id).status == "incomplete")
    assert said(client, conversation.id) == ["one", "token "]


def test_failed_response_adds_nothing(client: openai.OpenAI) -> None:
    conversation = client.conversations.create()
    text = json.dumps({"tokens": 9, "raise_at": 3})
    *_, failed = client.responses.create(model="m", input=text, conversation=conversation.id, stream=True)
    assert failed.type == "response.failed"
    assert said(client, conversation.id) == []


def test_items_come_in_pages(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[user(str(n), id=f"msg_{n}") for n in range(5)])
    list_items = client.conversations.items.list
    assert [item.id for item in list_items(conversation.id, limit=2)] == [f"msg_{n}" for n in (4, 3, 2, 1, 0)]
    page = list_items(conversation.id, limit=2, order="asc", after="msg_1", include=["reasoning.encrypted_content"])
    assert ([item.id for item in page.data], page.has_more) == (["msg_2", "msg_3"], True)
    with pytest.raises(openai.BadRequestError) as caught:
        list_items(conversation.id, after="msg_9")
    assert caught.value.param == "after"


def test_item_with_a_known_id_is_not_added_again(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[user("a", id="msg_a")])
    client.conversations.items.create(conversation.id, items=[user("other", id="msg_a"), user("b")])
    assert said(client, conversation.id) == ["a", "b"]


OUTPUT: Any = {"type": "function_call_output", "call_id": "c1", "output": "1"}


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (lambda c, at: c.conversations.items.create(at, items=[{"type": "message", "role": "x"}]), "items[0].role"),
        (lambda c, at: c.conversations.create(items=[user("a"), {"type": "compaction"}]), "items[1].encrypted_content"),
        (lambda c, at: c.conversations.items.create(at, items=[OUTPUT]), "items[0].call_id"),
        (lambda c, at: c.responses.create(model="m", input=[OUTPUT], conversation=at), "input[0].call_id"),
        (lambda c, at: c.conversations.create(metadata={"a" * 65: "b"}), f"metadata.{'a' * 65}"),
        (lambda c, at: c.conversations.items.create(at, items=5), "items"),
        (lambda c, at: c.conversations.items.list(at, order="up"), "order"),
        (
            lambda c, at: c.responses.create(model="m", input="a", conversation=at, previous_response_id="resp_1"),
            "conversation",
        ),
    ],
)
def test_bad_request_names_the_field(client: openai.OpenAI, call: Callable[..., Any], param: str) -> None:
    conversation = client.conversations.create()
    with pytest.raises(openai.BadRequestError) as caught:
        call(client, conversation.id)
    assert caught.value.param == param


def test_what_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    conversation = client.conversations.create()
    for call in (
        lambda: client.conversations.items.retrieve("msg_0", conversation_id=conversation.id),
        lambda: client.conversations.items.delete("msg_0", conversation_id=conversation.id),
        lambda: client.conversations.items.list("conv_0"),
        lambda: client.conversations.items.create("conv_0", items=[user("a")]),
        lambda: client.conversations.retrieve("conv_0"),
        lambda: client.conversations.update("conv_0", metadata={}),
        lambda: client.conversations.delete("conv_0"),
        lambda: client.responses.create(model="m", input="a", conversation="conv_0"),
    ):
        with pytest.raises(openai.NotFoundError):
            call()


def test_another_owner_sees_neither_conversations_nor_items(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--api-key", "a", "--api-key", "b", wait=False)
    server.http.headers["x-api-key"] = "a"
    server.wait_ready()
    with sdk(server, api_key="a") as client, sdk(server, api_key="b") as other:
        conversation = client.conversations.create(items=[user("a", id="msg_secret")])
        answer = client.responses.create(model="m", input="hello")
        for call in (
            lambda: other.conversations.retrieve(conversation.id),
            lambda: other.responses.create(model="m", input="a", conversation=conversation.id),
            lambda: refer(other, "msg_secret"),
            lambda: refer(other, answer.output[0].id or ""),
        ):
            with pytest.raises(openai.NotFoundError):
                call()


def test_response_of_a_conversation_is_not_gone_on_from_alone(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[user("a")])
    answer = client.responses.create(model="m", input="b", conversation=conversation.id)
    with pytest.raises(openai.BadRequestError, match=conversation.id):
        client.responses.create(model="m", input="c", previous_response_id=answer.id)


def test_conversation_that_is_too_large_is_refused(launch: Callable[..., Server]) -> None:
    with sdk(launch(*SCRIPTED, "--max-body-bytes", 4096)) as client:
        conversation = client.conversations.create(items=[user("x " * 1500)])
        client.conversations.items.create(conversation.id, items=[user("y " * 1500)])
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="m", input="c", conversation=conversation.id)
        assert (caught.value.param, caught.value.code) == ("conversation", "context_length_exceeded")


def test_server_that_keeps_nothing_has_no_conversations(launch: Callable[..., Server]) -> None:
    with sdk(launch(*SCRIPTED, "--response-store", "off")) as client:
        for call in (
            client.conversations.create,
            lambda: client.responses.create(model="m", input="a", conversation="conv_1"),
            lambda: refer(client, "msg_1"),
        ):
            with pytest.raises(openai.NotFoundError):
                call()


def refer(client: openai.OpenAI, *ids: str) -> Any:
    items: Any = [{"type": "item_reference", "id": id_} for id_ in ids]
    return client.responses.create(model="m", input=[*items, user("on")])


def test_reference_stands_for_the_item_that_is_kept(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[user("talked", id="msg_talk")])
    first = client.responses.create(model="m", input=[user("answered", id="msg_first")])
    second = refer(client, "msg_first", first.output[0].id or "", "msg_talk")
    client.responses.delete(first.id)
    client.conversations.delete(conversation.id)
    # What referred to them has them still.
    third = refer(client, "msg_first", first.output[0].id or "", "msg_talk", second.output[0].id or "")
    items = client.responses.input_items.list(third.id, order="asc").data
    texts = ["answered", "token ", "talked", "token ", "on"]
    assert [item.content[0].text for item in items] == texts  # type: ignore[union-attr]


def test_result_may_follow_a_call_that_is_referred_to(client: openai.OpenAI) -> None:
    call: Any = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": "{}"}
    client.responses.create(model="m", input=[user("a"), call])
    answer = client.responses.create(model="m", input=[user("a"), {"id": "fc_1"}, OUTPUT])
    kinds = [item.type for item in client.responses.input_items.list(answer.id, order="asc")]
    assert kinds == ["message", "function_call", "function_call_output"]


def test_reference_to_what_is_not_there_names_it(client: openai.OpenAI) -> None:
    gone = client.responses.create(model="m", input="a", store=False)
    for id_ in ("msg_nowhere", gone.output[0].id or ""):
        with pytest.raises(openai.NotFoundError, match=rf"input\[0\].id.*{id_}"):
            refer(client, id_)


def test_item_that_nobody_knows_is_left_out_and_named(client: openai.OpenAI) -> None:
    odd: Any = {"type": "odd"}
    made = client.conversations.with_raw_response.create(items=[odd, user("a")])
    assert made.headers["x-ignored-fields"] == "items[0].odd"
    id_ = made.parse().id
    more = client.conversations.items.with_raw_response.create(id_, items=[user("b"), odd])
    assert more.headers["x-ignored-fields"] == "items[1].odd"
    assert len(client.conversations.items.list(id_).data) == 2


def test_reference_among_a_conversations_items_names_its_place(client: openai.OpenAI) -> None:
    gone: Any = {"type": "item_reference", "id": "msg_nowhere"}
    with pytest.raises(openai.NotFoundError, match=r"items\[1\].id.*msg_nowhere"):
        client.conversations.create(items=[user("a"), gone])


def test_count_of_tokens_is_what_the_sdks_type_says(scripted_server: Server) -> None:
    answer = scripted_server.post("/v1/responses/input_tokens", {"input": "one two", "personality": "friendly"})
    assert strict(InputTokenCountResponse, answer.json()).object == "response.input_tokens"
    assert answer.headers["x-ignored-fields"] == "personality"


def test_tokens_that_are_counted_are_those_that_are_read(smollm2_server: Server) -> None:
    with sdk(smollm2_server) as client:
        alone: Any = {"input": "What is the capital of France?", "instructions": "Be brief."}
        first = client.responses.create(model="m", max_output_tokens=3, **alone)
        conversation = client.conversations.create(items=[user("My name is Ada.")])
        counts = []
        for more in ({}, {"previous_response_id": first.id}, {"conversation": conversation.id}):
            asked: Any = {**alone, **more}
            counts.append(client.responses.input_tokens.count(**asked).input_tokens)
            answer = client.responses.create(model="m", max_output_tokens=1, **asked)
            assert answer.usage is not None
            assert counts[-1] == answer.usage.input_tokens
        assert counts[0] < min(counts[1:])
