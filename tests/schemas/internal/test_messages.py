from typing import Any, get_args

import msgspec
import pytest

from mlx_server.schemas.internal import messages
from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, Pair, ScoreRequest, Truncation
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    Draft,
    FunctionCall,
    GenerationRequest,
    Grammar,
    Limits,
    Media,
    Message,
    Sampling,
    Template,
    TextPrompt,
    TokenPrompt,
    Tool,
    ToolUse,
)
from mlx_server.schemas.internal.messages import (
    Answered,
    Ask,
    Bound,
    Canary,
    CanaryEnded,
    Cancel,
    ChosenToken,
    Decoded,
    Event,
    Failed,
    FailureKind,
    Finished,
    FromWorker,
    Grant,
    Heartbeat,
    Load,
    LoadFailed,
    Loading,
    MlxMemory,
    ModelFacts,
    NoAnswer,
    Park,
    Picture,
    Prepared,
    Progress,
    Ready,
    Reasoning,
    Recording,
    Score,
    Segment,
    Sound,
    Started,
    Step,
    StepEvent,
    Stop,
    Submit,
    Text,
    TextOf,
    TokenLogprob,
    Tokens,
    TokensOf,
    ToolCall,
    ToWorker,
    Vector,
    Withdraw,
    Word,
)
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.schemas.internal.sound import SpeechRequest, TranscriptionRequest

SAMPLING = Sampling(0.7, 0.9, 40, 0.05, -(2**63), 1.1, 64, 0.5, -0.5, {0: -100.0, 49151: 1.5})
LIMITS = Limits(("\n\n", "stop"), True, (0, 49151), 3, True, False)
TOOL = Tool("f", "does it", {"type": "object", "properties": {"a": {"type": "number", "maximum": 2**64 - 1}}}, True)
CHAT = GenerationRequest(
    (
        ChatPrompt(
            (
                Message("assistant", "", None, "hm", (FunctionCall("c1", "f", '{"a":1}'),)),
                Message("tool", "2", tool_call_id="c1"),
                Message("user", "who?", media=(Media("image", b"\xff\xd8", 3, "messages[2].content[1]", "low"),)),
            ),
            (TOOL, Tool("g")),
            Template("{{ messages }}", {"user": "U: "}, False, {"deep": [{"er": None}]}, "low"),
            True,
        ),
    ),
    max_tokens=8,
    n=16,
    logprobs=20,
    echo=True,
    grammar=Grammar("json_schema", "{}", "response_format"),
    tool_use=ToolUse("named", "f", False),
    thinking_budget=0,
    adapter="/adapters/a",
    draft=Draft("small", 4),
)
REQUESTS = [
    GenerationRequest((ChatPrompt((Message("system", "Kurz, bitte. 🙂"), Message("user", "\x00", "Ann"))),), 2**31 - 1),
    GenerationRequest((TextPrompt("Once"), TextPrompt("", "end")), 1, 1, SAMPLING, LIMITS),
    CHAT,
    GenerationRequest((TokenPrompt((0, 1, 2**31 - 1)), TokenPrompt(())), 5),
    EmbeddingRequest(
        (EmbeddingInput("a", "input[0]"), EmbeddingInput((0, 5), "input[1]")), 64, Truncation(8, "end"), "query: "
    ),
    ScoreRequest((Pair("q", "d", "query", "documents[0]"),), Truncation(), "be just"),
    TranscriptionRequest("/tmp/a", "de", True, "Größe", ("Ann",), 0.5, True, True),
    SpeechRequest("Größe", "opus", "alloy", 1.5, "be calm"),
    PictureRequest("a circle", 2**32 - 1, 4, 512, 768, 4, 3.5, "text", "webp", 80, 2, True, "/tmp/b", "/tmp/c"),
]
TO_WORKER: list[ToWorker] = [
    Load("/models/a b", "lm", 8, 512, "/tmp/cache"),
    *(Submit(2**40, request, rows) for request in REQUESTS for rows in (0, 8)),
    Grant(1, 3),
    Cancel(1),
    Ask(1, TokensOf(CHAT.prompts[0], ToolUse("none"), "count")),
    Ask(2, TokensOf(TextPrompt("a", special=False), want="pieces")),
    Ask(3, TextOf((0, 2**31 - 1))),
    Submit(1, REQUESTS[0], 1, "6f0c"),
    Withdraw(2**40),
    Park(7),
    Bound(2**40),
    Bound(),
    Canary(),
    Stop(),
]
A = TokenLogprob("Ã", b"\xc3\x83", -0.5)
EVENTS: list[Event] = [
    Text(1, 0, "Größe 🙂", 3),
    Text(1, 15, "", 0),
    Text(1, 0, "Ã", 1, (ChosenToken(A, (A, TokenLogprob("\ufffd", b"\xc3", -9.5))), ChosenToken(A))),
    Text(1, 0, "<s>", 1, (ChosenToken(TokenLogprob("<s>", b"<s>", None)),)),
    Reasoning(1, 0, "let me see", 3),
    ToolCall(1, 0, 0, "", 4, "call_1", "f"),
    ToolCall(1, 0, 0, '{"a": 1}', 5),
    Finished(1, 0, "stop", 10, 4, 6),
    Finished(1, 1, "length", 10, 0, 6),
    Finished(1, 2, "tool_calls", 10, 0, 6, 3, "<|end|>", -0.25),
    Vector(1, 2, b"\x00\x00\x80?"),
    Score(1, 3, 0.25),
    Recording(1, 0, "english", 61.5),
    Segment(1, 0, " Größe", 0.0, 29.98, 300, (50364, 7), 0.2, -0.3, 1.2, 0.01, (Word("Größe", 0.1, 0.9),), (A,)),
    Segment(1, 0, " and", 30.0, 31.0),
    Sound(1, 0, b"\xff\xf3"),
    Picture(1, 3, b"\x89PNG", 64, 48, 2),
    *(Failed(1, kind, "no good", None) for kind in FailureKind),
    Failed(1, FailureKind.INVALID, "too long", "messages"),
]
FROM_WORKER: list[FromWorker] = [
    Loading("importing"),
    Loading("loading weights", 10**12, 10**13),
    Ready(ModelFacts(8, 8192, 49152, 538_000_000, "llama", "cpu (x86_64)", "ab12", ("one note", "another"))),
    Ready(ModelFacts(1, None, 400, 1000, "mamba", "gpu")),
    LoadFailed("no such model"),
    CanaryEnded(),
    CanaryEnded("no token"),
    Step(EVENTS),
    Step([]),
    Step([Prepared(1, 10, ("a",)), Started(1, 0, 10, 4), Progress(1, 5), *EVENTS]),
    Answered(1, Tokens(2, (0, 49151), ("", "Ġa"))),
    Answered(2, Decoded("Größe 🙂")),
    Answered(3, NoAnswer(FailureKind.INVALID, "no such token", "tokens", "code")),
    Heartbeat(0.0),
    Heartbeat(1.5, MlxMemory(10**12, 0, True)),
]


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda m: type(m).__name__)
def test_messages_to_the_worker_survive_the_wire(message: ToWorker) -> None:
    assert messages.decode_to_worker(messages.encode(message)) == message


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda m: type(m).__name__)
def test_messages_from_the_worker_survive_the_wire(message: FromWorker) -> None:
    assert messages.decode_from_worker(messages.encode(message)) == message


@pytest.mark.parametrize(
    ("union", "examples"),
    [
        (ToWorker, TO_WORKER),
        (FromWorker, FROM_WORKER),
        (StepEvent, [Prepared(1, 10, ("a",)), Started(1, 0, 10, 4), Progress(1, 5), *EVENTS]),
    ],
    ids=["to-worker", "from-worker", "events"],
)
def test_every_message_type_has_an_example_here(union: Any, examples: list[Any]) -> None:
    kinds = {kind for member in get_args(union) for kind in get_args(member) or (member,)}
    assert kinds == {type(example) for example in examples}


def test_each_direction_takes_only_its_own_messages() -> None:
    for message in FROM_WORKER:
        with pytest.raises(msgspec.ValidationError):
            messages.decode_to_worker(messages.encode(message))
    for message in TO_WORKER:
        with pytest.raises(msgspec.ValidationError):
            messages.decode_from_worker(messages.encode(message))
