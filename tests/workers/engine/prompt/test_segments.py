"""Prompts tokenised piece by piece are what they are as a whole, with tokenizers of all kinds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mlx_server.workers.engine.prompt.segments import ENTRY_BYTES, LIMIT_BYTES, SegmentedTokenizer, limit_beside

WORDS = "Hello world, hello under the tree; lower LOWER words of the user and the assistant said: yes, no 123 456. " * 3
MARKS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|im_end|>\n",
    "<|im_start|>user\n",
    "<think>",
    "<|im",
    "<mask>",
    "<end>",
    "word",
)
FRAGMENTS = (
    *MARKS,
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "Hello",
    "hello",
    " world",
    "▁",
    "e\u0301",
    "é",
    "你好",
    "🙂\ufe0f",
    "<",
    "|>",
    ">",
    "1",
)
OWNER = "someone"


def plain(text: str) -> AddedToken:
    return AddedToken(text, special=True, normalized=False)


def trained(
    pre: pre_tokenizers.PreTokenizer,
    normalizer: normalizers.Normalizer | None = None,
    added: tuple[AddedToken, ...] = (),
    *,
    begins: bool = False,
    trims: bool = False,
    **more: Any,
) -> Any:
    """A small tokenizer of the library's with the marks of turns; one that `begins` puts a token before each text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if isinstance(pre, pre_tokenizers.ByteLevel) else []
    tokenizer.train_from_iterator(
        [WORDS],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<unk>", "<s>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.add_tokens([plain("<|im_start|>"), plain("<|im_end|>"), *added])
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.ByteLevel()
    return (Trimming if trims else PreTrainedTokenizerFast)(tokenizer_object=tokenizer, **more)


class Trimming(PreTrainedTokenizerFast):
    """One with code of its own round the library's."""

    def encode(self, text: str, **more: Any) -> Any:
        return super().encode(text.strip(), **more)


STRIPPING = (
    AddedToken("<mask>", lstrip=True, normalized=False),
    AddedToken("<end>", rstrip=True, normalized=False),
    AddedToken("word", single_word=True, normalized=False),
    AddedToken("\n\n", normalized=False),
    AddedToken("<think>", normalized=True),
)
KINDS: dict[str, tuple[Callable[[], Any], bool, bool]] = {
    "byte level": (lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False)), True, True),
    "byte level, a space first": (lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)), True, True),
    "metaspace, always": (lambda: trained(pre_tokenizers.Metaspace(prepend_scheme="always")), True, True),
    "metaspace, first": (lambda: trained(pre_tokenizers.Metaspace(prepend_scheme="first")), True, True),
    "prepended": (lambda: trained(pre_tokenizers.Whitespace(), normalizers.Prepend("▁")), True, True),
    "stripping": (lambda: trained(pre_tokenizers.ByteLevel(), normalizers.Lowercase(), STRIPPING), True, True),
    "begins": (lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False), begins=True), True, False),
    "overlapping": (
        lambda: trained(pre_tokenizers.ByteLevel(), None, (plain("<|im"), plain("\n<|im_end|>"), plain("|><|"))),
        True,
        True,
    ),
    "trims in Python": (lambda: trained(pre_tokenizers.ByteLevel(), trims=True), False, False),
    "special tokens are text": (lambda: trained(pre_tokenizers.ByteLevel(), split_special_tokens=True), False, False),
    "normalised marks": (
        lambda: trained(pre_tokenizers.ByteLevel(), normalizers.NFC(), (AddedToken("<think>", normalized=True),)),
        True,
        True,
    ),
}
"""Tokenizers, and whether pieces are alike without special tokens and with those that the tokenizer adds."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Any, SegmentedTokenizer, tuple[bool, bool]]:
    make, *splits = KINDS[request.param]
    tokenizer = make()
    return tokenizer, SegmentedTokenizer(tokenizer, least=1), (splits[0], splits[1])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Texts out of marks, of what tokenizers treat in ways of their own, and of anything."""
    anything = st.text(st.characters(exclude_categories=("Cs",)), max_size=4)
    return "".join(draw(st.lists(st.one_of(st.sampled_from(FRAGMENTS), anything), max_size=14)))


def check(tokenizer: Any, segments: SegmentedTokenizer, text: str) -> None:
    for special in (False, True):
        whole = list(tokenizer.encode(text, add_special_tokens=special))
        assert [segments.encode(text, OWNER, special=special) for _ in range(2)] == [whole, whole]
        assert segments.encode(text, None, special=special) == whole


def test_pieces_are_tokenised_alone_where_that_gives_the_same(
    kind: tuple[Any, SegmentedTokenizer, tuple[bool, bool]],
) -> None:
    _, segments, splits = kind
    assert (segments.splits(special=False), segments.splits(special=True)) == splits


@given(text=texts())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_together_are_the_whole(kind: tuple[Any, SegmentedTokenizer, tuple[bool, bool]], text: str) -> None:
    tokenizer, segments, _ = kind
    check(tokenizer, segments, text)


@pytest.mark.model
@given(text=texts())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_together_are_the_whole_with_a_models_own_tokenizer(models_own: Any, text: str) -> None:
    segments = SegmentedTokenizer(models_own, least=1)
    assert segments.splits(special=False)
    check(models_own, segments, text)


@pytest.fixture(scope="module")
def models_own(smollm2: Path) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(smollm2)


class Counting:
    """A tokenizer that says what it was given to tokenise."""

    def __init__(self) -> None:
        self._tokenizer = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
        self.given: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.given.append(text)
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def given_for(self, segments: SegmentedTokenizer, text: str, owner: str | None) -> list[str]:
        self.given.clear()
        assert segments.encode(text, owner, special=False) == self._tokenizer.encode(text)
        return list(self.given)


def turn(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n"


def test_only_what_is_new_is_tokenised() -> None:
    tokenizer = Counting()
    segments = SegmentedTokenizer(tokenizer, least=8)
    before = turn("hello") + turn("world")
    tokenizer.given_for(segments, before + "<|im_start|>", OWNER)
    assert tokenizer.given_for(segments, before + turn("new"), OWNER) == ["<|im_start|>user\nnew"]
    assert tokenizer.given_for(segments, before + turn("new"), OWNER) == []


@pytest.mark.parametrize("owner", ["another", None])
def test_what_is_kept_is_its_owners_alone(owner: str | None) -> None:
    tokenizer = Counting()
    segments = SegmentedTokenizer(tokenizer, least=1)
    tokenizer.given_for(segments, turn("hello"), OWNER)
    assert "".join(tokenizer.given_for(segments, turn("hello"), owner)) == turn("hello")


def test_nothing_is_kept_for_nobody() -> None:
    tokenizer = Counting()
    segments = SegmentedTokenizer(tokenizer)
    for _ in range(2):
        assert tokenizer.given_for(segments, turn("hello"), None) == [turn("hello")]
    assert segments.nbytes == 0


def test_the_oldest_pieces_leave_when_there_are_too_many() -> None:
    tokenizer, limit = Counting(), 8 * ENTRY_BYTES
    segments = SegmentedTokenizer(tokenizer, limit, least=1)
    for number in range(20):
        tokenizer.given_for(segments, f"<|im_start|>{number}", OWNER)
        assert 0 < segments.nbytes <= limit
    assert tokenizer.given_for(segments, "<|im_start|>19", OWNER) == []
    assert tokenizer.given_for(segments, "<|im_start|>0", OWNER) == ["<|im_start|>0"]
    assert tokenizer.given_for(segments, WORDS * 100, OWNER) == [WORDS * 100]
    assert segments.nbytes == 0


def test_texts_take_a_small_part_of_what_their_states_may_take() -> None:
    assert limit_beside(0) == 0
    assert limit_beside(64 << 20) == 1 << 20
    assert limit_beside(1 << 40) == LIMIT_BYTES


def test_nothing_stays_where_no_states_are_kept() -> None:
    tokenizer = Counting()
    segments = SegmentedTokenizer(tokenizer, limit_beside(0))
    for _ in range(2):
        assert tokenizer.given_for(segments, turn("hello"), OWNER) == [turn("hello")]
    assert segments.nbytes == 0
