"""`/tokenize`, `/detokenize` and `/v1/messages/count_tokens`: the tokenizer's answers, and their faults."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fidelity.texts import TEXTS
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server, chat_body
from tokenizers import Tokenizer

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
OPENING = "<|im_start|>assistant\n"
CONTEXT = 8192
COUNT = "/v1/messages/count_tokens"


def tokens_of(server: Server, **body: Any) -> dict[str, Any]:
    response = server.post("/tokenize", body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def text_of(server: Server, tokens: list[int]) -> str:
    response = server.post("/detokenize", {"tokens": tokens})
    assert response.status_code == 200, response.text
    return str(response.json()["prompt"])


def refusal(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    return dict(response.json()["error"])


@pytest.mark.model
def test_text_becomes_tokens_and_text_again(smollm2_server: Server) -> None:
    found = tokens_of(smollm2_server, prompt="Hello world", model="any", return_token_strs=True)
    assert found == {
        "count": 2,
        "max_model_len": CONTEXT,
        "tokens": [19556, 905],
        "token_strs": ["Hello", "Ġworld"],
    }
    assert text_of(smollm2_server, found["tokens"]) == "Hello world"


@pytest.mark.model
@pytest.mark.parametrize("text", ["", " ", "naïve 🙂 日本", "<|im_start|>user\n"])
def test_any_text_comes_back_as_it_was(smollm2_server: Server, text: str) -> None:
    found = tokens_of(smollm2_server, prompt=text)
    assert (found["count"], found["token_strs"]) == (len(found["tokens"]), None)
    assert text_of(smollm2_server, found["tokens"]) == text


@pytest.mark.model
def test_two_hundred_texts_have_the_files_tokens(smollm2: Path, smollm2_server: Server) -> None:
    file = Tokenizer.from_file(str(smollm2 / "tokenizer.json"))
    unlike = [text for text in TEXTS if tokens_of(smollm2_server, prompt=text)["tokens"] != file.encode(text).ids]
    assert unlike == []


@pytest.mark.model
def test_messages_become_the_tokens_that_a_completion_has(smollm2_server: Server) -> None:
    found = tokens_of(smollm2_server, messages=MESSAGES)
    usage = smollm2_server.post("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 1}).json()["usage"]
    assert found["count"] == usage["prompt_tokens"]
    assert text_of(smollm2_server, found["tokens"]).endswith(OPENING)


@pytest.mark.model
def test_turn_of_the_assistant_is_begun_only_if_wanted(smollm2_server: Server) -> None:
    opened = tokens_of(smollm2_server, messages=MESSAGES)["tokens"]
    plain = tokens_of(smollm2_server, messages=MESSAGES, add_generation_prompt=False)["tokens"]
    assert text_of(smollm2_server, plain) + OPENING == text_of(smollm2_server, opened)
    begun = [*MESSAGES, {"role": "assistant", "content": "The capital"}]
    continued = tokens_of(smollm2_server, messages=begun, continue_final_message=True)["tokens"]
    assert text_of(smollm2_server, continued) == text_of(smollm2_server, opened) + "The capital"


@pytest.mark.model
def test_both_prefixes_are_served(smollm2_server: Server) -> None:
    for path, body in (("tokenize", {"prompt": "a b"}), ("detokenize", {"tokens": [1, 2]})):
        plain, versioned = (smollm2_server.post(f"{prefix}/{path}", body) for prefix in ("", "/v1"))
        assert (plain.status_code, plain.json()) == (200, versioned.json())


@pytest.mark.model
@pytest.mark.parametrize("id_", [49152, 2**31 - 1])
def test_token_that_is_not_in_the_vocabulary_is_refused(smollm2_server: Server, id_: int) -> None:
    error = refusal(smollm2_server.post("/detokenize", {"tokens": [1, id_]}), 400)
    assert error["message"] == f"`tokens`: token id {id_} is not in the vocabulary (0 to 49151)."
    assert error["param"] == "tokens"


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("tokenize", {}, "prompt"),
    ("tokenize", {"prompt": "x", "messages": MESSAGES}, "prompt"),
    ("tokenize", {"prompt": 5}, "prompt"),
    ("tokenize", {"messages": []}, "messages"),
    ("tokenize", {"messages": MESSAGES, "add_special_tokens": True}, "add_special_tokens"),
    ("tokenize", {"messages": MESSAGES, "continue_final_message": True}, "continue_final_message"),
    ("tokenize", {"prompt": "x", "tools": []}, "tools"),
    ("tokenize", {"prompt": "x", "mm_processor_kwargs": {"a": 1}}, "mm_processor_kwargs"),
    ("detokenize", {}, "tokens"),
    ("detokenize", {"tokens": "x"}, "tokens"),
    ("detokenize", {"tokens": [-1]}, "tokens[0]"),
]


@pytest.mark.parametrize(("path", "body", "param"), REFUSED, ids=str)
def test_malformed_question_is_refused_by_field(
    scripted_server: Server, path: str, body: dict[str, Any], param: str
) -> None:
    assert refusal(scripted_server.post(f"/{path}", body), 400)["param"] == param


def test_unknown_fields_are_told_in_a_header(scripted_server: Server) -> None:
    response = scripted_server.post("/tokenize", {"prompt": "x", "wizardry": 1})
    assert response.headers["x-ignored-fields"] == "wizardry"


def count_body(script: dict[str, Any]) -> dict[str, Any]:
    return chat_body(script)


def test_question_needs_no_row(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 0)
    with RawClient(server, chat_body({"tokens": 1 << 20, "interval_s": 0.01}, max_tokens=1 << 20, stream=True)) as busy:
        assert busy.status == 200
        assert server.chat("no room").status_code == 429
        assert server.post(COUNT, count_body({})).json() == {"input_tokens": 1}


def test_refusal_of_the_prompt_is_a_bad_request(scripted_server: Server) -> None:
    error = refusal(scripted_server.post(COUNT, count_body({"invalid": True})), 400)
    assert error["message"] == "the script says that this prompt is refused"
    error = refusal(scripted_server.post("/tokenize", {"prompt": '{"raise_at": 1}'}), 500)
    assert (error["type"], error["code"]) == ("server_error", "engine_error")


def test_worker_that_dies_is_a_bad_gateway_and_the_next_one_answers(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    error = refusal(server.post(COUNT, count_body({"die_at": 1})), 502)
    assert (error["type"], error["code"]) == ("api_error", "worker_lost")
    assert server.post(COUNT, count_body({})).json() == {"input_tokens": 1}


def test_question_waits_for_the_model(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:load_s=1.5", wait=False)
    server.wait_listening()
    assert server.get("/health/ready").status_code == 503
    assert tokens_of(server, prompt="x")["count"] == 1


def test_question_that_takes_too_long_times_out(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--queue-timeout", 0.5)
    error = refusal(server.post(COUNT, count_body({"prepare_s": 1.5})), 504)
    assert (error["type"], error["code"]) == ("timeout_error", "timeout")
    assert "0.5 seconds" in error["message"]


def test_more_questions_than_may_wait_are_refused(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 1)
    slow = count_body({"prepare_s": 1.0})
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.post(COUNT, slow), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
    [refused, _] = [answer for answer in answers if answer.status_code == 429]
    assert refused.headers["retry-after"] == "1"


def test_who_leaves_gives_the_place_back(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 0)
    slow = count_body({"prepare_s": 1.0})
    with RawClient(server, slow, COUNT):
        server.wait_until(lambda: server.post(COUNT, count_body({})).status_code == 429)
    server.wait_until(lambda: server.post(COUNT, count_body({})).status_code == 200)
    server.stop()
    assert "ERROR" not in server.output()
