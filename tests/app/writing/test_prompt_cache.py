"""What is kept of prompts, seen from outside: in usage, in metrics, in explanations, and after a restart."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.running.metrics import value
from support.running.servers import Server, serving, wait_for

from mlx_server.app.deployment.process_memory import PURPOSES

pytestmark = pytest.mark.model

SYSTEM = {"role": "system", "content": "the quick brown fox jumps over the lazy dog " * 12}


@pytest.fixture(scope="module")
def server(tiny_model: Callable[[str], Path]) -> Iterator[Server]:
    """A tiny model, whose prompts are kept in memory."""
    with serving("--model-path", tiny_model("llama"), "--max-concurrency", 4) as server:
        yield server


def _messages(*texts: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [SYSTEM, *({"role": roles[i % 2], "content": text} for i, text in enumerate(texts))]


def _chat(server: Server, *texts: str, key: str = "", **more: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"messages": _messages(*texts), "max_tokens": 4, "temperature": 0, **more}
    response = server.post("/v1/chat/completions", body, headers=headers)
    assert response.status_code == 200, response.text
    return dict(response.json())


def _cached(answer: dict[str, Any]) -> int:
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])


def _explain(server: Server, key: str, **body: Any) -> dict[str, Any]:
    response = server.post("/v1/cache/explain", body, headers={"Authorization": f"Bearer {key}"})
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_a_prompt_that_begins_as_an_earlier_one_is_told_in_every_apis_usage(server: Server) -> None:
    first = _chat(server, "hello", key="usage")
    again = _chat(server, "hello", key="usage")
    tokens = first["usage"]["prompt_tokens"]
    assert (_cached(first), _cached(again)) == (0, tokens - 1)
    assert first["choices"] == again["choices"]
    headers = {"Authorization": "Bearer usage"}
    body = {"model": "m", "max_tokens": 4, "system": SYSTEM["content"], "messages": _messages("hello")[1:]}
    usage = server.post("/v1/messages", body, headers=headers).json()["usage"]
    assert usage["cache_read_input_tokens"] == tokens - 1
    body = {"model": "m", "max_output_tokens": 4, "instructions": SYSTEM["content"], "input": "hello"}
    usage = server.post("/v1/responses", body, headers=headers).json()["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] == tokens - 1
    for expected in (False, True):
        body = {"prompt": SYSTEM["content"] * 2, "max_tokens": 4}
        usage = server.post("/v1/completions", body, headers=headers).json()["usage"]
        assert (usage["prompt_tokens_details"]["cached_tokens"] > 0) is expected


def test_only_prompts_with_the_same_salt_share_what_is_kept(server: Server) -> None:
    assert _cached(_chat(server, "hello", key="salt")) == 0
    assert _cached(_chat(server, "hello", key="salt", cache_salt="a")) == 0
    assert _cached(_chat(server, "hello", key="salt", cache_salt="b")) == 0
    assert _cached(_chat(server, "hello", key="other", cache_salt="a")) == 0
    again = _chat(server, "hello", key="salt", cache_salt="a")
    assert _cached(again) == again["usage"]["prompt_tokens"] - 1
    for salt, known in (("a", True), ("c", False)):
        body = {"messages": _messages("hello"), "cache_salt": salt}
        assert (_explain(server, "salt", **body)["cached_tokens"] > 0) is known
    response = {"instructions": SYSTEM["content"], "input": "hello", "max_output_tokens": 4}
    for salt, known in (("a", True), ("c", False)):
        headers = {"Authorization": "Bearer salt"}
        usage = server.post("/v1/responses", {**response, "cache_salt": salt}, headers=headers).json()["usage"]
        assert (usage["input_tokens_details"]["cached_tokens"] > 0) is known


def test_every_api_can_do_without_what_is_kept(server: Server) -> None:
    headers = {"Authorization": "Bearer without"}
    name = server.http.get(f"{server.root}/v1/models").json()["data"][0]["id"]
    text = {"max_tokens": 4, "use_cache": False}
    asked: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": _messages("hello")} | text,
        "/v1/completions": {"prompt": SYSTEM["content"]} | text,
        "/v1/messages": {"system": SYSTEM["content"], "messages": _messages("hello")[1:]} | text,
        "/v1/responses": {"instructions": SYSTEM["content"], "input": "hello", "use_cache": False},
        f"/v1/models/{name}/generate": {"prompt": SYSTEM["content"]} | text,
    }
    before = value(server, "cached_prompts_total")
    for path, body in asked.items():
        for _ in range(2):
            assert server.post(path, body, headers=headers).status_code == 200, path
    assert value(server, "cached_prompts_total") == before


def test_the_metrics_count_what_was_known(server: Server) -> None:
    before = value(server, "cached_prompts_total"), value(server, "cached_prompt_tokens_total")
    for _ in range(2):
        answer = _chat(server, "counted", key="metrics")
    assert value(server, "cached_prompts_total") == before[0] + 1
    assert value(server, "cached_prompt_tokens_total") == before[1] + _cached(answer)


def test_the_metrics_say_what_the_workers_memory_is_for(server: Server) -> None:
    _chat(server, "a prompt that is kept", key="memory")
    server.wait_until(lambda: value(server, "worker_memory_bytes", purpose="prompts") > 0)
    used = {purpose: value(server, "worker_memory_bytes", purpose=purpose) for purpose in PURPOSES}
    assert used["weights"] > 0
    assert used["rest"] > 10 << 20
    assert used["features"] == 0


def test_other_keys_prompts_and_unwilling_requests_share_nothing(server: Server) -> None:
    _chat(server, "mine", key="a")
    assert _cached(_chat(server, "mine", key="b")) == 0
    assert _cached(_chat(server, "mine", key="a", use_cache=False)) == 0
    assert _cached(_chat(server, "mine", key="a", use_cache=True, conversation_id="c")) > 0


def test_explain_tells_where_a_conversation_became_another_one(server: Server) -> None:
    nothing = _explain(server, "explain", messages=_messages("the first question"))
    assert (nothing["cached_tokens"], nothing["nearest"], nothing["diverged_at"]) == (0, None, None)
    first = _chat(server, "the first question", "an answer", "the second question", key="explain")
    same = _explain(server, "explain", messages=_messages("the first question", "an answer", "the second question"))
    assert same["prompt_tokens"] == first["usage"]["prompt_tokens"]
    assert (same["cached_tokens"], same["diverged_at"]) == (same["prompt_tokens"] - 1, None)
    edited = _messages("the first question", "another answer", "the second question")
    found = _explain(server, "explain", messages=edited)
    assert found["diverged_at"]["message"] == 2
    assert found["diverged_at"]["token"] == found["nearest"]["alike_tokens"] == found["cached_tokens"]
    tokens = server.post("/tokenize", {"messages": edited, "return_token_strs": True}).json()["token_strs"]
    assert found["diverged_at"]["text"] == tokens[found["diverged_at"]["token"]]
    assert _explain(server, "somebody else", messages=edited)["nearest"] is None


def test_explain_refuses_what_it_can_not_tokenise(server: Server) -> None:
    response: httpx.Response = server.post("/v1/cache/explain", {"messages": []})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


def test_prompts_are_known_after_a_restart_and_warm_ones_at_the_start(
    tiny_model: Callable[[str], Path], launch: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "system.txt").write_text(SYSTEM["content"])
    flags = ["--model-path", tiny_model("llama"), "--prompt-cache-dir", tmp_path / "kept"]
    server = launch(*flags, "--warm-prompt", tmp_path / "system.txt")
    warm = _chat(server, "hello", key="a")
    assert 0 < _cached(warm) < warm["usage"]["prompt_tokens"] - 1
    told = _explain(server, "somebody else", messages=_messages("something else"))
    assert told["cached_tokens"] == _cached(warm), "it is everybody's"
    assert server.stop() == 0
    assert list((tmp_path / "kept").rglob("*.safetensors"))
    server = launch(*flags)
    again = _chat(server, "hello", key="a")
    assert _cached(again) == again["usage"]["prompt_tokens"] - 1
    assert again["choices"] == warm["choices"]
    wait_for(lambda: server.stats()["served"] == 1)
