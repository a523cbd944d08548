from typing import Any, get_args

import msgspec
import pytest

from mlx_server.schemas import messages
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Message, Sampling, TextPrompt, TokenPrompt
from mlx_server.schemas.messages import (
    Cancel,
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
    ModelFacts,
    Ready,
    Step,
    Stop,
    Submit,
    Text,
    ToWorker,
)

SAMPLING = Sampling(0.7, 0.9, 40, 0.05, -(2**63), 1.1, 64, 0.5, -0.5, {0: -100.0, 49151: 1.5})
REQUESTS = [
    GenerationRequest((ChatPrompt((Message("system", "Kurz, bitte. 🙂"), Message("user", "\x00", "Ann"))),), 2**31 - 1),
    GenerationRequest((TextPrompt("Once"), TextPrompt("")), 1, SAMPLING, ("\n\n", "stop")),
    GenerationRequest((TokenPrompt((0, 1, 2**31 - 1)), TokenPrompt(())), 5),
]
TO_WORKER: list[ToWorker] = [
    Load("/models/a b", "lm", 8, 512, "/tmp/cache"),
    *(Submit(2**40, request, rows) for request in REQUESTS for rows in (0, 8)),
    Grant(1, 3),
    Cancel(1),
    Stop(),
]
EVENTS: list[Event] = [
    Text(1, 0, "Größe 🙂", 3),
    Text(1, 15, "", 0),
    Finished(1, 0, "stop", 10, 4, 6),
    Finished(1, 1, "length", 10, 0, 6),
    *(Failed(1, kind, "no good", None) for kind in FailureKind),
    Failed(1, FailureKind.INVALID, "too long", "messages"),
]
FROM_WORKER: list[FromWorker] = [
    Loading("importing"),
    Loading("loading weights", 10**12, 10**13),
    Ready(ModelFacts(8, 8192, 49152, 538_000_000, "llama", "cpu (x86_64)", ("one note", "another"))),
    Ready(ModelFacts(1, None, 400, 1000, "mamba", "gpu")),
    LoadFailed("no such model"),
    Step(EVENTS),
    Step([]),
    Heartbeat(0.0),
    Heartbeat(1.5),
]


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda m: type(m).__name__)
def test_messages_to_the_worker_survive_the_wire(message: ToWorker) -> None:
    assert messages.decode_to_worker(messages.encode(message)) == message


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda m: type(m).__name__)
def test_messages_from_the_worker_survive_the_wire(message: FromWorker) -> None:
    assert messages.decode_from_worker(messages.encode(message)) == message


@pytest.mark.parametrize(
    ("union", "examples"),
    [(ToWorker, TO_WORKER), (FromWorker, FROM_WORKER), (Event, EVENTS)],
    ids=["to-worker", "from-worker", "events"],
)
def test_every_message_type_has_an_example_here(union: Any, examples: list[Any]) -> None:
    assert set(get_args(union)) == {type(example) for example in examples}


def test_each_direction_takes_only_its_own_messages() -> None:
    for message in FROM_WORKER:
        with pytest.raises(msgspec.ValidationError):
            messages.decode_to_worker(messages.encode(message))
    for message in TO_WORKER:
        with pytest.raises(msgspec.ValidationError):
            messages.decode_from_worker(messages.encode(message))
