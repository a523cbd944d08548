"""Adapters and speculative decoding through real servers: the same answers in any company, and honest refusals."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import support.tiny.adapters
from support.running.metrics import value
from support.running.raw import RawClient
from support.running.servers import Server, chat_body, serving

from mlx_server.workers.parent.environment import child_environment

PROMPTS = ("What is the capital of France?", "Count to five.", "Name three colours.", "Who are you?")


@pytest.fixture(scope="module")
def adapters(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters `a` and `b` for SmolLM2, made in a process of their own, and `broken`."""
    folder = tmp_path_factory.mktemp("adapters")
    command = [sys.executable, str(support.tiny.adapters.__file__), *map(str, (smollm2, folder / "a", folder / "b"))]
    subprocess.run(command, check=True, env=child_environment())
    (folder / "broken").mkdir()
    (folder / "broken" / "adapter_config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def server(smollm2: Path, adapters: Path) -> Iterator[Server]:
    """SmolLM2 with itself as its draft, and adapters to name."""
    flags = ("--adapter-dir", adapters, "--draft-model", smollm2)
    with serving("--model-path", smollm2, "--max-concurrency", 8, *flags) as server:
        yield server


def say(server: Server, text: str, **more: Any) -> str:
    answer = server.chat(text, max_tokens=10, temperature=0, **more)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def streamed(server: Server, text: str, **more: Any) -> str:
    answer = server.chat(text, max_tokens=14, temperature=0, stream=True, **more)
    assert answer.status_code == 200, answer.text
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.model
def test_mixed_clients_get_the_answers_that_each_gets_alone(server: Server) -> None:
    variants: list[dict[str, Any]] = [{}, {"adapters": "a"}, {"adapters": "b"}, {"num_draft_tokens": 4}]
    asked = [(prompt, variant) for prompt in PROMPTS[:1] for variant in variants]
    alone = [say(server, prompt, **variant) for prompt, variant in asked]
    by_variant = [alone[number :: len(variants)] for number in range(len(variants))]
    assert by_variant[0] == by_variant[3], "a draft changed the answers"
    assert by_variant[0] != by_variant[1] != by_variant[2] != by_variant[0], "the adapters change nothing"
    order = list(range(len(asked)))
    random.Random(1).shuffle(order)
    with ThreadPoolExecutor(len(asked)) as clients:
        together = dict(zip(order, clients.map(lambda i: say(server, asked[i][0], **asked[i][1]), order), strict=True))
    assert [together[i] for i in range(len(asked))] == alone


@pytest.mark.model
def test_an_adapter_by_flag_is_the_adapter_by_name(
    server: Server, launch: Callable[..., Server], smollm2: Path, adapters: Path
) -> None:
    expected = {name: say(server, PROMPTS[0], adapters=name) for name in ("a", "none")}
    by_flag = launch("--model-path", smollm2, "--adapter-path", adapters / "a", "--max-concurrency", 2)
    assert say(by_flag, PROMPTS[0]) == expected["a"]
    assert say(by_flag, PROMPTS[0], adapters="none") == expected["none"]
    assert say(by_flag, PROMPTS[0]) == expected["a"]
    refused = by_flag.chat("hi", adapters="a")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "adapters")
    assert "--adapter-dir" in refused.json()["error"]["message"]


@pytest.mark.model
def test_a_draft_proposes_and_is_counted(server: Server) -> None:
    names = ("draft_tokens_total", "accepted_draft_tokens_total")
    before = [value(server, name) for name in names]
    plain = say(server, PROMPTS[1], speculate="off")
    assert say(server, PROMPTS[1], num_draft_tokens=4, adapters="none") == plain
    drafted, accepted = (value(server, name) - was for name, was in zip(names, before, strict=True))
    assert 0.9 * drafted < accepted <= drafted, "the draft is the model itself"
    assert accepted >= 6
    assert server.stats()["draft_tokens"] >= drafted


@pytest.mark.model
def test_eight_streams_say_with_a_draft_what_each_says_without(server: Server) -> None:
    asked = [f"{prompt} {more}" for prompt in PROMPTS for more in ("Please.", "Be brief.")]
    alone = [streamed(server, text, speculate="off") for text in asked]
    before = value(server, "accepted_draft_tokens_total")
    with ThreadPoolExecutor(len(asked)) as clients, RawClient(server, chat_body("Tell me a story.")) as leaving:
        together = clients.map(lambda text: streamed(server, text, num_draft_tokens=3), asked)
        leaving.leave()
        assert list(together) == alone
    assert value(server, "accepted_draft_tokens_total") > before + 40
    server.wait_stats(active_requests=0, rows_used=0)


@pytest.mark.model
@pytest.mark.parametrize("more", [{"n": 3, "seed": 4}, {"seed": 5, "presence_penalty": 1.0}], ids=["choices", "seed"])
def test_sampled_answers_are_the_same_with_a_draft(server: Server, more: dict[str, Any]) -> None:
    def texts(**draft: Any) -> list[str]:
        answer = server.chat("Tell me a story.", max_tokens=12, temperature=0.8, **more, **draft)
        assert answer.status_code == 200, answer.text
        return [choice["message"]["content"] for choice in answer.json()["choices"]]

    assert texts(num_draft_tokens=3) == texts(speculate="off")


@pytest.mark.model
def test_a_grammar_holds_with_a_draft(server: Server) -> None:
    answer = server.chat("A number?", max_tokens=20, regex="[0-9]{3}-[a-c]+", num_draft_tokens=3, seed=2)
    assert answer.status_code == 200, answer.text
    text = answer.json()["choices"][0]["message"]["content"]
    assert text[:3].isdigit()
    assert set(text[4:]) <= set("abc")


@pytest.mark.model
def test_a_broken_adapter_is_a_400_and_the_next_request_is_served(server: Server) -> None:
    expected = say(server, PROMPTS[2])
    refused = server.chat("hi", adapters="broken")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "adapters"
    assert "'broken' can't be used" in refused.json()["error"]["message"]
    assert say(server, PROMPTS[2]) == expected


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"adapters": "nonesuch"}, "adapters", "a, b, broken"),
    ({"adapters": "../adapters/a"}, "adapters", "a, b, broken"),
    ({"adapters": "/etc/passwd"}, "adapters", "a, b, broken"),
    ({"draft_model": "other"}, "draft_model", "default_model"),
    ({"num_draft_tokens": 0}, "num_draft_tokens", "1"),
]


@pytest.mark.parametrize(("more", "param", "says"), REFUSALS, ids=lambda value: str(value)[:30])
def test_what_is_not_there_is_refused_by_name(server: Server, more: dict[str, Any], param: str, says: str) -> None:
    answer = server.chat("hi", **more)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert says in answer.json()["error"]["message"]
