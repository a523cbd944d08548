"""What a replica may know of a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mlx_server.queue.beginnings import BLOCK, MOST_BLOCKS, PER_FILE, KnownBeginnings, Readers, beginnings_of
from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    GenerationRequest,
    Media,
    Message,
    Prompt,
    TextPrompt,
    TokenPrompt,
    Tool,
)

QUESTION, ANSWER, NEXT = "q" * 1000, "a" * 700, "n" * 300


def chat(*texts: str, tools: tuple[Tool, ...] = ()) -> ChatPrompt:
    """Turns of a user and a model."""
    roles = ("user", "assistant")
    return ChatPrompt(tuple(Message(roles[at % 2], text) for at, text in enumerate(texts)), tools)


def asked(prompt: Prompt) -> GenerationRequest:
    return GenerationRequest((prompt,), 1)


def known_of(first: GenerationRequest, second: GenerationRequest, limit: int = 1 << 20) -> int:
    """What is known of the second after the first."""
    known = KnownBeginnings("one", {})
    known.limit = limit
    known.add(beginnings_of(first))
    return known.longest(beginnings_of(second))


def test_a_turn_knows_the_one_before_and_its_answer() -> None:
    assert known_of(asked(chat(QUESTION)), asked(chat(QUESTION, ANSWER, NEXT))) == 1700
    assert known_of(asked(chat(QUESTION, ANSWER, NEXT)), asked(chat(QUESTION, ANSWER, NEXT))) == 2000
    assert known_of(asked(chat(QUESTION, ANSWER, NEXT)), asked(chat(QUESTION, ANSWER, "other"))) == 1700
    assert known_of(asked(chat(QUESTION, ANSWER, NEXT)), asked(chat(QUESTION + "!", ANSWER, NEXT))) == BLOCK


def test_texts_and_tokens_are_known_by_blocks() -> None:
    text = "word " * 1000
    assert known_of(asked(TextPrompt(text)), asked(TextPrompt(text + "more"))) == 5000 // BLOCK * BLOCK
    ids = tuple(range(1000))
    assert known_of(asked(TokenPrompt(ids)), asked(TokenPrompt((*ids[:500], 1, 2)))) == 500 * 4 // BLOCK * BLOCK
    assert known_of(asked(TextPrompt("short")), asked(TextPrompt("short"))) == 0


@pytest.mark.parametrize(
    "other",
    [{"tenant": "b"}, {"salt": "s"}, {"adapter": "/a"}, {"use_cache": False}],
    ids=["tenant", "salt", "adapter", "uncached"],
)
def test_nothing_is_known_across(other: dict[str, str | bool]) -> None:
    first = asked(chat(QUESTION))
    assert known_of(first, replace(first, **other)) == 0
    assert known_of(replace(first, **other), first) == 0


def test_tools_and_files_count() -> None:
    tool = Tool("weather", "Tells it. " * 30)
    assert known_of(asked(chat("a", tools=(tool,))), asked(chat("b", tools=(tool,)))) > 300
    assert known_of(asked(chat(QUESTION, tools=(tool,))), asked(chat(QUESTION))) == 0

    def shown(source: bytes) -> GenerationRequest:
        return asked(ChatPrompt((Message("user", "What is this?", media=(Media("image", source, 0, "x"),)),)))

    assert known_of(shown(b"one"), shown(b"one")) > PER_FILE
    assert known_of(shown(b"one"), shown(b"two")) == 0


def test_what_makes_no_text_has_no_beginnings() -> None:
    assert beginnings_of(EmbeddingRequest((EmbeddingInput("x" * 1000, "input"),))) == ()


def test_the_least_recent_is_forgotten_first_and_ends_before_beginnings() -> None:
    known = KnownBeginnings("one", {})
    known.limit = 4 * BLOCK
    old, new = (beginnings_of(asked(TextPrompt(letter * 3 * BLOCK))) for letter in "on")
    known.add(old)
    known.add(new)
    assert (known.longest(old), known.longest(new)) == (BLOCK, 3 * BLOCK)
    large = beginnings_of(asked(TextPrompt("l" * 9 * BLOCK)))
    known.add(large)
    assert (known.longest(old), known.longest(new), known.longest(large)) == (0, 0, 4 * BLOCK)
    assert (known.forgotten_for(0), known.forgotten_for(BLOCK)) == (0, BLOCK)
    known.clear()
    assert (known.longest(large), known.forgotten_for(4 * BLOCK)) == (0, 0)


@given(st.lists(st.tuples(*[st.sampled_from("xyz")] * 4), max_size=30), st.integers(0, 20))
def test_what_is_remembered_is_bounded_and_has_no_gaps(prompts: list[tuple[str, ...]], blocks: int) -> None:
    known = KnownBeginnings("one", {})
    known.limit = blocks * BLOCK
    for letters in prompts:
        beginnings = beginnings_of(asked(TextPrompt("".join(letter * BLOCK for letter in letters))))
        known.add(beginnings)
        assert known.longest(beginnings) == min(known.limit, 4 * BLOCK)
        for count in range(1, 5):
            assert known.longest(beginnings[:count]) == min(known.limit, count * BLOCK)


def test_who_knows_a_beginning_is_told() -> None:
    readers: Readers[str] = {}
    one, other = KnownBeginnings("one", readers), KnownBeginnings("other", readers)
    one.limit = other.limit = BLOCK
    prompts = [beginnings_of(asked(TextPrompt(letter * BLOCK))) for letter in "ab"]
    for prompt in prompts:
        one.add(prompt)
    other.add(prompts[1])
    assert [list(readers.get(prompt[0].key, ())) for prompt in prompts] == [[], ["one", "other"]]
    one.clear()
    other.clear()
    assert readers == {}


def test_the_number_of_blocks_is_bounded_too() -> None:
    known = KnownBeginnings("one", {})
    known.limit = 1 << 40
    beginnings = beginnings_of(asked(TextPrompt("x" * (MOST_BLOCKS + 5) * BLOCK)))
    known.add(beginnings)
    assert known.longest(beginnings) == MOST_BLOCKS * BLOCK
