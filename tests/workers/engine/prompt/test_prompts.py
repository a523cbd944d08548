import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.templates import LLAMA31, QWEN3, with_template

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    NO_LIMIT,
    ChatPrompt,
    GenerationRequest,
    Limits,
    Message,
    Sampling,
    Template,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolUse,
    in_force,
)
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.output.output_format import OutputFormat
from mlx_server.workers.engine.prompt.prompts import PromptMaker

pytestmark = pytest.mark.model
VOCABULARY, CONTEXT = 49152, 64


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(smollm2)


@pytest.fixture
def maker(tokenizer: Any) -> PromptMaker:
    return make_maker(tokenizer, Sampling(temperature=0.2, top_k=7))


def make_maker(tokenizer: Any, defaults: Sampling) -> PromptMaker:
    return PromptMaker(
        tokenizer, VOCABULARY, CONTEXT, defaults, Vocabulary(tokenizer, VOCABULARY), OutputFormat.of(tokenizer)
    )


def _refusal(maker: PromptMaker, request: GenerationRequest) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        maker.sequences(1, request)
    return caught.value


def test_a_conversation_is_rendered_by_the_models_template(maker: PromptMaker, tokenizer: Any) -> None:
    prompt = ChatPrompt((Message("system", "Be brief."), Message("user", "Hello", "Ann")))
    [sequence] = maker.sequences(3, GenerationRequest((prompt,), 8, limits=Limits(stop=("x",))))
    text = tokenizer.decode(sequence.prompt)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (sequence.key, sequence.max_tokens, sequence.limits.stop) == ((3, 0), 8, ("x",))
    assert not sequence.continues_text


def test_each_prompt_becomes_a_sequence(maker: PromptMaker, tokenizer: Any) -> None:
    prompts = (TextPrompt("Once upon"), TokenPrompt((5, VOCABULARY - 1)), TextPrompt(""), TokenPrompt(()))
    sequences = maker.sequences(3, GenerationRequest(prompts, 8))
    start = [tokenizer.bos_token_id]
    assert [s.prompt for s in sequences] == [tokenizer.encode("Once upon"), [5, VOCABULARY - 1], start, start]
    assert [s.key for s in sequences] == [(3, 0), (3, 1), (3, 2), (3, 3)]
    assert all(sequence.continues_text for sequence in sequences)


@pytest.mark.parametrize("id_", [-1, VOCABULARY, 2**31 - 1])
def test_a_token_that_the_model_does_not_know_is_refused(maker: PromptMaker, id_: int) -> None:
    refusal = _refusal(maker, GenerationRequest((TokenPrompt((5, id_)),), 8))
    assert refusal.param == "prompt"
    assert str(id_) in refusal.message
    assert str(VOCABULARY - 1) in refusal.message


def test_a_bias_beyond_the_vocabulary_is_refused(maker: PromptMaker) -> None:
    request = GenerationRequest((TextPrompt("a"),), 8, sampling=Sampling(logit_bias={5: 1.0, VOCABULARY: 1.0}))
    refusal = _refusal(maker, request)
    assert refusal.param == "logit_bias"
    assert f" {VOCABULARY} " in refusal.message
    assert str(VOCABULARY - 1) in refusal.message


@pytest.mark.parametrize("tokens", [CONTEXT, CONTEXT + 1, 10 * CONTEXT])
def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(maker: PromptMaker, tokens: int) -> None:
    refusal = _refusal(maker, GenerationRequest((TokenPrompt((5,) * tokens),), 8))
    assert (refusal.param, refusal.code) == ("prompt", "context_length_exceeded")
    assert f" {tokens} input tokens" in refusal.message
    assert f" {CONTEXT} tokens" in refusal.message


def test_a_conversation_longer_than_the_context_names_its_messages(maker: PromptMaker) -> None:
    refusal = _refusal(maker, GenerationRequest((ChatPrompt((Message("user", "word " * CONTEXT),)),), 8))
    assert refusal.param == "messages"


@pytest.mark.parametrize(
    ("tokens", "asked", "expected"), [(60, 8, 4), (63, 8, 1), (10, 8, 8), (10, 4096, 54), (10, NO_LIMIT, 54)]
)
def test_max_tokens_is_what_is_left_of_the_context(maker: PromptMaker, tokens: int, asked: int, expected: int) -> None:
    [sequence] = maker.sequences(1, GenerationRequest((TokenPrompt((5,) * tokens),), asked))
    assert sequence.max_tokens == expected


@pytest.mark.parametrize(("asked", "expected"), [(5000, 5000), (NO_LIMIT - 1, NO_LIMIT - 1), (NO_LIMIT, 32_768)])
def test_a_model_that_does_not_tell_its_context_takes_any_length(tokenizer: Any, asked: int, expected: int) -> None:
    maker = PromptMaker(
        tokenizer, VOCABULARY, None, Sampling(), Vocabulary(tokenizer, VOCABULARY), OutputFormat.of(tokenizer)
    )
    [sequence] = maker.sequences(1, GenerationRequest((TokenPrompt((5,) * 100_000),), asked))
    assert sequence.max_tokens == expected


def test_sampling_is_the_clients_then_the_models_then_openais(maker: PromptMaker) -> None:
    [sequence] = maker.sequences(
        1, GenerationRequest((TextPrompt("a"),), 8, sampling=Sampling(temperature=0.0, seed=5))
    )
    sampling = sequence.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.0, 7, 1.0, 0.0)
    assert (sampling.seed, sampling.repetition_penalty) == (5, None)


def test_sampling_in_force_keeps_what_has_no_default() -> None:
    given = Sampling(presence_penalty=0.5, logit_bias={1: 2.0}, seed=3)
    filled = in_force(given, Sampling(temperature=0.5, seed=9))
    assert filled == Sampling(0.5, 1.0, top_k=0, min_p=0.0, presence_penalty=0.5, logit_bias={1: 2.0}, seed=3)


@pytest.mark.parametrize(("template", "several"), [(LLAMA31, False), (QWEN3, True)], ids=["one", "several"])
def test_no_second_call_is_made_where_the_template_has_no_place_for_it(
    smollm2: Path, template: str, several: bool
) -> None:
    tokenizer = with_template(smollm2, template)
    vocabulary = Vocabulary(tokenizer, VOCABULARY)
    maker = PromptMaker(tokenizer, VOCABULARY, None, Sampling(), vocabulary, OutputFormat.of(tokenizer))
    prompt = ChatPrompt((Message("user", "hi"),), (Tool("stop"),))
    [sequence] = maker.sequences(1, GenerationRequest((prompt,), 8, tool_use=ToolUse("required")))
    maker.close()
    assert sequence.speech is not None
    assert sequence.speech.tool_use == ToolUse("required", parallel=several)
    assert sequence.grammar is not None
    call = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
    first, *second = tokenizer.encode(call, add_special_tokens=False), *tokenizer.encode(f"\n{call}")
    assert all(sequence.grammar.consume_token(token) for token in first)
    assert sequence.grammar.is_accepting()
    assert all(sequence.grammar.consume_token(token) for token in second) is several


def test_a_model_without_a_template_refuses_conversations(tokenizer: Any, tmp_path: Path, smollm2: Path) -> None:
    import json
    import shutil

    from mlx_lm.utils import load_tokenizer

    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(smollm2 / name, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    maker = make_maker(load_tokenizer(tmp_path), Sampling())
    refusal = _refusal(maker, GenerationRequest((ChatPrompt((Message("user", "a"),)),), 8))
    assert "no chat template" in refusal.message


def test_a_message_that_goes_on_is_no_new_text(maker: PromptMaker, tokenizer: Any) -> None:
    messages = (Message("user", "Hi"), Message("assistant", "Hel"))
    [sequence] = maker.sequences(1, GenerationRequest((ChatPrompt(messages, continues_last=True),), 8))
    assert tokenizer.decode(sequence.prompt).endswith("<|im_start|>assistant\nHel")
    assert sequence.continues_text


def test_tools_are_shown_unless_none_may_be_called(tokenizer: Any) -> None:
    long = PromptMaker(
        tokenizer, VOCABULARY, 4096, Sampling(), Vocabulary(tokenizer, VOCABULARY), OutputFormat.of(tokenizer)
    )
    prompt = ChatPrompt((Message("user", "Hi"),), (Tool("weather"),))
    [shown] = long.sequences(1, GenerationRequest((prompt,), 8))
    [hidden] = long.sequences(1, GenerationRequest((prompt,), 8, tool_use=ToolUse("none")))
    assert '"name": "weather"' in tokenizer.decode(shown.prompt)
    assert "weather" not in tokenizer.decode(hidden.prompt)


def test_a_suffix_is_refused_by_a_model_that_has_no_tokens_for_it(maker: PromptMaker) -> None:
    assert _refusal(maker, GenerationRequest((TextPrompt("a", "b"),), 8)).param == "suffix"


def test_a_suffix_is_filled_in_before(smollm2: Path) -> None:
    tokenizer = with_template(smollm2, None, ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"))
    size = VOCABULARY + 3
    maker = PromptMaker(tokenizer, size, CONTEXT, Sampling(), Vocabulary(tokenizer, size), OutputFormat.of(tokenizer))
    [filled] = maker.sequences(1, GenerationRequest((TextPrompt("a", "b"),), 8))
    assert tokenizer.decode(filled.prompt) == "<fim_prefix>a<fim_suffix>b<fim_middle>"
    [plain] = maker.sequences(1, GenerationRequest((TextPrompt("a", ""),), 8))
    assert tokenizer.decode(plain.prompt) == "a"
    request = GenerationRequest((TextPrompt("a", "b" * 10_000),), 8)
    assert _refusal(maker, request).code == "context_length_exceeded"


def test_a_template_that_makes_more_than_the_context_holds_is_refused(maker: PromptMaker) -> None:
    template = Template(text="{{ 'word ' * 100000 }}")
    prompt = ChatPrompt((Message("user", "Hi"),), template=template)
    with contextlib.closing(maker):
        refusal = _refusal(maker, GenerationRequest((prompt,), 8))
    assert (refusal.param, refusal.code) == ("messages", "context_length_exceeded")


def test_a_template_that_refuses_is_the_clients_fault(tokenizer: Any, tiny_model: Any, tmp_path: Path) -> None:
    import json
    import shutil

    from mlx_lm.utils import load_tokenizer

    folder = tiny_model("llama")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ raise_exception('roles must alternate') }}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    maker = make_maker(load_tokenizer(tmp_path), Sampling())
    refusal = _refusal(maker, GenerationRequest((ChatPrompt((Message("user", "a"),)),), 8))
    assert refusal.param == "messages"
    assert "roles must alternate" in refusal.message


def test_special_tokens_are_added_unless_unwanted(smollm2: Path) -> None:
    from mlx_lm.utils import load_tokenizer
    from tokenizers.processors import TemplateProcessing

    beginning = load_tokenizer(smollm2)
    beginning.backend_tokenizer.post_processor = TemplateProcessing(
        "<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    maker = make_maker(beginning, Sampling())
    [first, *rest] = maker.tokens(TextPrompt("Once upon"), ToolUse())
    assert first == 1
    assert maker.tokens(TextPrompt("Once upon", special=False), ToolUse()) == rest


def test_tokens_are_text_again(maker: PromptMaker) -> None:
    ids = maker.tokens(TextPrompt("Once upon"), ToolUse())
    assert (maker.text(ids), maker.pieces(ids)) == ("Once upon", ["Once", "Ġupon"])
    assert (maker.tokens(TextPrompt(""), ToolUse()), maker.text([]), maker.pieces([])) == ([], "", [])
    with pytest.raises(InvalidRequest, match="token id 49152 is not in the vocabulary"):
        maker.text([VOCABULARY])


def test_places_that_a_client_marks_are_found_where_they_are_of_use(tokenizer: Any) -> None:
    def marked(*messages: Message, finds_marks: bool = True) -> list[str]:
        vocabulary, output_format = Vocabulary(tokenizer, VOCABULARY), OutputFormat.of(tokenizer)
        maker = PromptMaker(tokenizer, VOCABULARY, 8192, Sampling(), vocabulary, output_format, finds_marks=finds_marks)
        [one] = maker.sequences(1, GenerationRequest((ChatPrompt(messages),), 8))
        return [tokenizer.decode(one.prompt[:mark]) for mark in one.marks]

    rules, page, last = "Be brief. " * 30, "A long page. " * 30, Message("assistant", "Yes")
    system = Message("system", rules + "It is Monday.", marks=(len(rules),))
    asked = Message("user", page + "Why?", marks=(len(page),))
    first, second = marked(system, asked, last)
    assert first.rstrip().endswith("Be brief.")
    assert second.rstrip().endswith("A long page.")
    assert marked(system, asked, last, finds_marks=False) == []
    # A checkpoint stands behind the first message and the last ones anyway.
    assert marked(Message("system", rules, marks=(len(rules),)), Message("user", page, marks=(len(page),))) == []
    assert marked(Message("system", "Be brief.", marks=(3,)), asked, last)[0].startswith(second[:9])


def test_last_turn_is_opened_left_closed_or_gone_on_with(maker: PromptMaker) -> None:
    def text(*messages: Message, **how: bool) -> str:
        return maker.text(maker.tokens(ChatPrompt((Message("system", "s"), *messages), **how), ToolUse()))

    hi, begun = Message("user", "hi"), Message("assistant", "He")
    closed = text(hi, opens_answer=False)
    assert closed.endswith("hi<|im_end|>\n")
    assert text(hi) == closed + "<|im_start|>assistant\n"
    assert text(hi, begun, continues_last=True) == text(hi) + "He"


def test_model_that_does_not_reason_can_be_told_not_to(maker: PromptMaker) -> None:
    def prompt(thinking: bool | None) -> ChatPrompt:
        return ChatPrompt((Message("user", "hi"),), template=Template(thinking=thinking))

    assert maker.tokens(prompt(False), ToolUse()) == maker.tokens(prompt(None), ToolUse())
    for thinking, ignored in ((True, ("thinking", "thinking_budget")), (None, ("thinking_budget",))):
        [sequence] = maker.sequences(1, GenerationRequest((prompt(thinking),), 8, thinking_budget=5, ignored=("x",)))
        assert sequence.ignored == ("x", *ignored)


def test_a_conversation_that_may_be_shortened_is_as_short_as_the_context_wants(maker: PromptMaker) -> None:
    said = [("system", "Be brief."), ("user", "word " * 40), ("assistant", "ok"), ("user", "Hello")]
    prompt = ChatPrompt(tuple(Message(role, text) for role, text in said), param="input")
    refusal = _refusal(maker, GenerationRequest((prompt,), 8))
    assert (refusal.param, refusal.code) == ("input", "context_length_exceeded")
    [cut] = maker.sequences(1, GenerationRequest((replace(prompt, drops_oldest=True),), 99))
    short = ChatPrompt((prompt.messages[0], prompt.messages[3]), drops_oldest=True)
    [whole] = maker.sequences(1, GenerationRequest((short,), 99))
    assert (cut.prompt, cut.dropped_messages, whole.dropped_messages) == (whole.prompt, 2, 0)
    assert cut.max_tokens == CONTEXT - len(cut.prompt)
    too_long = ChatPrompt((Message("user", "word " * 80),), param="input", drops_oldest=True)
    assert _refusal(maker, GenerationRequest((too_long,), 8)).code == "context_length_exceeded"


PATTERNS = {
    "OpenAI": r"This model's maximum context length is (\d+) tokens\. However, ",
    "vLLM": r"maximum context length is (\d+) tokens\. However, your request has (\d+) input tokens",
    "Claude Code": r"prompt is too long[^0-9]*(\d+)\s*tokens?\s*>\s*(\d+)",
    "LangChain": r"prompt is too long",
    "LiteLLM, so Aider": r"this model's maximum context length is",
    "Cline": r"\bcontext\s*(?:length|window)\b|\bmaximum\s*context\b",
    "OpenCode, pi": r"maximum context length is \d+ tokens",
    "OpenCode, pi of Groq": r"reduce the length of the messages",
}
"""What agents and libraries look for, case being no matter, to shorten a conversation by themselves. Codex asks for the
code."""


@pytest.mark.parametrize("who", PATTERNS)
def test_agents_know_a_prompt_that_is_too_long(maker: PromptMaker, who: str) -> None:
    exactly, at_least = TokenPrompt((5,) * (2 * CONTEXT)), TextPrompt("word " * 100_000)
    for prompt in (exactly, at_least):
        refused = _refusal(maker, GenerationRequest((prompt,), 8))
        found = re.search(PATTERNS[who], refused.message, re.IGNORECASE)
        assert found is not None
        assert refused.code == "context_length_exceeded"
        if prompt is exactly:
            assert set(map(int, found.groups())) <= {CONTEXT - 1, CONTEXT, 2 * CONTEXT}


def test_a_prompt_that_leaves_no_room_says_so_in_numbers_that_are_true(maker: PromptMaker) -> None:
    message = _refusal(maker, GenerationRequest((TokenPrompt((5,) * CONTEXT),), 8)).message
    assert f"{CONTEXT} tokens > {CONTEXT - 1} maximum" in message
    assert " or more" in _refusal(maker, GenerationRequest((TextPrompt("word " * 100_000),), 8)).message
