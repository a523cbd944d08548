"""Grammars that would end, stall or mislead a worker: tried elsewhere first, refused with a reason."""

import contextlib
import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.inputs.schemas import schemas

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar
from mlx_server.workers.__main__ import WORKER_STACK_BYTES
from mlx_server.workers.engine.grammar.distinct import Matcher
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def vocabulary(smollm2: Path) -> Iterator[Vocabulary]:
    from mlx_lm.utils import load_tokenizer

    vocabulary = Vocabulary(load_tokenizer(smollm2), 49152)
    yield vocabulary
    vocabulary.close()


def _chain(links: int) -> str:
    """A schema whose references lead on and on."""
    definitions: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(links)}
    return json.dumps({"$ref": "#/$defs/d0", "$defs": definitions | {f"d{links}": {"type": "string"}}})


HOSTILE = {
    "references": Grammar("json_schema", _chain(60_000), "p"),
    "rules": Grammar("lark", "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(60_000)) + 'r60000: "a"', "p"),
    "repetition": Grammar("regex", "((a{1000}){1000}){1000}", "p"),
    "optional properties": Grammar(
        "json_schema", json.dumps({"type": "object", "properties": {f"p{i}": {} for i in range(700)}}), "p"
    ),
    "nothing": Grammar("json_schema", '{"$ref": "#"}', "p"),
    "never": Grammar("json_schema", '{"allOf": [{"type": "string"}, {"type": "integer"}]}', "p"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_is_refused_with_a_reason(vocabulary: Vocabulary, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        vocabulary.compile(HOSTILE[name])
    assert (caught.value.param, caught.value.code) == ("p", "invalid_grammar")
    assert len(caught.value.message) < 1000
    assert vocabulary.compile(Grammar("choice", '["yes", "no"]', "p")).is_accepting() is False


@pytest.mark.parametrize("name", sorted(schemas()))
def test_ordinary_schemas_pass(vocabulary: Vocabulary, name: str) -> None:
    assert not vocabulary.compile(Grammar("json_schema", json.dumps(schemas()[name]), "p")).is_error()


def test_chains_as_long_as_the_guard_allows_are_safe_on_a_workers_threads(vocabulary: Vocabulary) -> None:
    passed = []

    def compile_all() -> None:
        for links in (500, 1500, 3000, 6000):
            with contextlib.suppress(InvalidRequest):
                vocabulary.compile(Grammar("json_schema", _chain(links), "p"))
                passed.append(links)

    usual = threading.stack_size(WORKER_STACK_BYTES)
    thread = threading.Thread(target=compile_all)
    thread.start()
    thread.join()
    threading.stack_size(usual)
    assert 1500 in passed


PASSWORDS = {
    "three kinds": (r"^(?=.*[a-z])(?=.*[A-Z])(?=.*\d).{8,64}$", "Secret12"),
    "four kinds": (r"^(?=.*[a-z])(?=.*[A-Z])(?=.*\d)(?=.*[^\da-zA-Z]).{8,}$", "Secret-Pass1"),
    "without spaces": (r"^(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])(?=.*\W)(?!.* ).{8,16}$", "!Secret12"),
}


@pytest.mark.parametrize("name", PASSWORDS)
def test_passwords_can_be_written(vocabulary: Vocabulary, name: str) -> None:
    pattern, password = PASSWORDS[name]
    properties = {"user": {"type": "string"}, "password": {"type": "string", "pattern": pattern}}
    schema = {"type": "object", "properties": properties, "required": ["user", "password"]}
    matcher = vocabulary.compile(Grammar("json_schema", json.dumps(schema), "p"))
    write(vocabulary, matcher, json.dumps({"user": "bob", "password": password}))
    assert matcher.is_accepting()


def write(vocabulary: Vocabulary, matcher: Matcher, text: str) -> None:
    """Go on by a text's tokens; they must be allowed."""
    for token in vocabulary.tokens.tokenize_str(text):
        assert matcher.compute_bitmask()[token // 8] >> token % 8 & 1, matcher.get_error()
        assert matcher.consume_token(token)


def test_answers_leave_nothing_behind_in_a_grammar(vocabulary: Vocabulary) -> None:
    grammar = Grammar("regex", "(?s:.*e.{40}x)", "p")
    words = Path(__file__).read_text().split()
    for number in range(4):
        matcher = vocabulary.compile(grammar)
        write(vocabulary, matcher, " ".join(random.Random(number).sample(words, 60)))
        assert not matcher.is_error(), matcher.get_error()


def test_a_grammar_is_tried_once_and_a_guard_that_died_is_started_anew(vocabulary: Vocabulary) -> None:
    vocabulary.compile(Grammar("regex", "a{3}", "p"))
    [child] = guards()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not vocabulary.compile(Grammar("regex", "a{3}", "p")).is_error()
    assert guards() == []
    assert not vocabulary.compile(Grammar("regex", "a{4}", "p")).is_error()


def guards() -> list[psutil.Process]:
    """The processes in which grammars are tried."""
    return [each for each in psutil.Process().children() if "grammar_child" in " ".join(each.cmdline())]
