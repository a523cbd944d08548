"""One model on several ranks of this machine: the tokens are those of one process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.running.hub import LocalHub, repo_of, running
from support.running.supervised import Supervised
from support.tiny.models import make_model, split_by_layer

from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.generation import GenerationRequest, Grammar, Limits, Sampling, TextPrompt
from mlx_server.schemas.internal.hosts import Backend, Host, Hosts
from mlx_server.schemas.internal.messages import Finished, ModelFacts, Text
from mlx_server.schemas.internal.state_bits import StateBits
from mlx_server.workers.parent.supervisor import StartError

pytestmark = pytest.mark.model

TIME_S = 120.0
HEARTBEAT_S = 3.0
HELD_BACK_S = 0.8
"""Before each piece of the weights that rank 0 downloads: in all it takes more than the heartbeat's time."""
GREEDY = Sampling(temperature=0.0)
PENALISED = Sampling(
    temperature=0.0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.4, logit_bias={70: 3.0}
)
ESSAY = "A long beginning that several of these share, which is kept. " * 3


def seeded(seed: int) -> Sampling:
    return Sampling(temperature=0.9, top_p=0.95, top_k=40, seed=seed)


def asked(prompt: str, tokens: int, sampling: Sampling, **more: Any) -> GenerationRequest:
    limits = more.pop("limits", Limits(ignore_eos="grammar" not in more))
    return GenerationRequest((TextPrompt(prompt),), tokens, sampling=sampling, limits=limits, token_ids=True, **more)


TOGETHER = (
    asked("One", 40, GREEDY),
    asked(ESSAY, 25, PENALISED),
    asked("The third is short.", 6, seeded(3)),
    asked("Several choices: ", 12, seeded(4), n=3),
    asked("Numbers: ", 24, seeded(5), grammar=Grammar("regex", "[a-z]{3,9}( [a-z]{2,5})*", "grammar")),
    asked("It stops: ", 30, seeded(6), limits=Limits(stop=("a", "e"), ignore_eos=True)),
    asked("Left before it is done", 400, GREEDY),
)
"""More rows than there is room for: they join and leave at different steps."""

AGAIN = asked(ESSAY + "And it goes on.", 20, GREEDY)


class Choice(NamedTuple):
    """What has to be the same however many processes computed it."""

    ids: list[int]
    text: str
    end: str


HERE = Host("127.0.0.1", ("127.0.0.1",))


def hosts(ranks: int, backend: Backend = "ring", *envs: str) -> Hosts:
    """This machine, so many times."""
    return Hosts((HERE,) * ranks, backend, envs)


async def answered(world: Supervised, ticket: Ticket) -> tuple[list[Choice], int]:
    """All choices, and how many tokens of the prompt were known."""
    events = await world.answer(ticket)
    choices, known = [], 0
    for finished in sorted((one for one in events if isinstance(one, Finished)), key=lambda one: one.index):
        texts = [one for one in events if isinstance(one, Text) and one.index == finished.index]
        ids = [token for one in texts for token in one.ids]
        choices.append(Choice(ids, "".join(one.text for one in texts), finished.reason))
        known = finished.cached_tokens
    return choices, known


async def play(folder: Path, spread: Hosts | None) -> tuple[list[list[Choice]], int, ModelFacts]:
    """All answers, the tokens of the last prompt that were known already, and what the model says of itself."""
    async with asyncio.timeout(TIME_S), Supervised(str(folder), "lm", rows=4, hosts=spread) as world:
        *tickets, leaving = [world.queue.submit(request, whole=True) for request in TOGETHER]
        found = [choices for choices, _ in await asyncio.gather(*(answered(world, ticket) for ticket in tickets))]
        world.queue.cancel(leaving)
        again, known = await answered(world, world.queue.submit(AGAIN, whole=True))
        assert world.all_told("lost") == []
        return [*found, again], known, world.all_told("ready")[0]


Alone = Callable[[str, int], tuple[Path, list[list[Choice]], int]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """A model by its architecture and its heads of keys, what one process answers with it, and its rows; each once."""

    @cache
    def played(architecture: str, heads: int) -> tuple[Path, list[list[Choice]], int]:
        folder = make_model(
            tmp_path_factory.mktemp(architecture), architecture, num_hidden_layers=4, num_key_value_heads=heads
        )
        found, _, facts = asyncio.run(play(folder, None))
        return folder, found, facts.rows

    return played


@pytest.mark.parametrize(
    ("architecture", "ranks", "heads", "note"),
    [
        ("llama", 2, 4, "tensor parallel"),
        ("qwen3", 2, 4, "tensor parallel"),
        ("llama", 4, 4, "tensor parallel"),
        ("gpt_oss", 2, 4, "tensor parallel"),
        ("qwen2", 2, 1, "pipeline parallel"),
        ("qwen2", 4, 1, "pipeline parallel"),
    ],
)
def test_ranks_give_the_tokens_of_one_process(
    alone: Alone, architecture: str, ranks: int, heads: int, note: str
) -> None:
    folder, expected, rows = alone(architecture, heads)
    found, known, spread = asyncio.run(play(folder, hosts(ranks)))
    assert found == expected
    assert known > 0
    assert any(one.startswith(note) for one in spread.notes)
    assert spread.rows == rows


@pytest.mark.skipif(sys.platform != "linux", reason="Open MPI is installed on Linux only")
@pytest.mark.parametrize(
    ("architecture", "ranks", "heads", "envs"),
    [("llama", 2, 4, ()), ("qwen2", 4, 1, ()), ("llama", 2, 4, ("OMPI_MCA_btl=self,tcp",))],
    ids=["tensor parallel", "pipeline", "tensor parallel, by TCP"],
)
def test_ranks_over_mpi_give_the_tokens_of_one_process(
    tmp_path: Path, architecture: str, ranks: int, heads: int, envs: tuple[str, ...]
) -> None:
    folder = make_model(tmp_path, architecture, num_hidden_layers=4, num_key_value_heads=heads)
    expected, _, _ = asyncio.run(play(folder, None))
    found, known, _ = asyncio.run(play(folder, hosts(ranks, "mpi", *envs)))
    assert found == expected
    assert known > 0


OTHER = Host("mac2.example", ("127.0.0.1",))


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No other machine is at hand: what stands for ssh has a shell run the words that would run there, with a hub's
    cache of that machine's own, and the hub of THEIR_HUB, if any. They are kept in this file."""
    words, command = tmp_path / "words", tmp_path / "bin" / "ssh"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {words}\nuntil [ "$1" = {OTHER.ssh} ]; do shift; done\nshift\n'
        f'HF_HUB_CACHE={tmp_path}/theirs HF_ENDPOINT="${{THEIR_HUB:-$HF_ENDPOINT}}" exec sh -c "$*"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    return words


def test_a_host_is_reached_by_ssh(tmp_path: Path, ssh: Path) -> None:
    folder = make_model(tmp_path, "llama", num_key_value_heads=4)
    spread = Hosts((HERE, OTHER), "ring", ("SAID=of all ranks",))

    async def scenario() -> None:
        async with asyncio.timeout(TIME_S), Supervised(str(folder), "lm", hosts=spread) as world:
            [choice], _ = await answered(world, world.queue.submit(asked("One", 5, GREEDY), whole=True))
            assert len(choice.ids) == 5

    asyncio.run(scenario())
    *options, host, command = ssh.read_text().splitlines()
    assert "BatchMode=yes" in options
    assert host == "mac2.example"
    assert command.startswith("env 'SAID=of all ranks' ")


@pytest.mark.usefixtures("ssh")
@pytest.mark.skipif(sys.platform != "linux", reason="Open MPI is installed on Linux only")
def test_mpirun_reaches_a_host_by_ssh(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "llama", num_key_value_heads=4)
    # Both hosts are this one: where Open MPI sees a hierarchy of hosts, its ranks would disagree on it.
    spread = Hosts((Host(HERE.ssh), Host(OTHER.ssh)), "mpi", ("OMPI_MCA_coll=^han",))
    expected, _, _ = asyncio.run(play(folder, None))
    found, _, _ = asyncio.run(play(folder, spread))
    assert found == expected


def test_a_host_that_ssh_does_not_reach_is_named_with_what_to_try(tmp_path: Path, ssh: Path) -> None:
    (tmp_path / "bin" / "ssh").write_text("#!/bin/sh\nexit 255\n")

    async def scenario() -> None:
        folder = make_model(tmp_path, "llama", num_key_value_heads=4)
        async with Supervised(str(folder), "lm", wait_ready=False, hosts=Hosts((HERE, OTHER), "ring")) as world:
            with pytest.raises(StartError, match=r"can't be reached: `ssh .* mac2\.example true` has to work"):
                await asyncio.wait_for(world.running, TIME_S)

    asyncio.run(scenario())
    assert not ssh.exists()


@pytest.mark.usefixtures("ssh")
@pytest.mark.parametrize(
    ("heads", "missing", "pause_s"), [(1, 2, 0.0), (4, 0, HELD_BACK_S)], ids=["pipeline", "tensor, late"]
)
def test_a_host_downloads_the_weights_that_its_rank_reads_and_waits_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heads: int, missing: int, pause_s: float
) -> None:
    (folder := tmp_path / "model").mkdir()
    make_model(folder, "qwen2", num_hidden_layers=4, num_key_value_heads=heads)
    split_by_layer(folder)

    async def said(model: str, cache: Path, spread: Hosts | None) -> list[Choice]:
        async with (
            asyncio.timeout(TIME_S),
            Supervised(model, "lm", hosts=spread, cache_dir=str(cache)) as world,
        ):
            return (await answered(world, world.queue.submit(asked("One", 20, GREEDY), whole=True)))[0]

    repo = repo_of(folder, "someone/layers")
    spread = Hosts((HERE, OTHER), "ring", heartbeat_s=HEARTBEAT_S)
    with running(LocalHub(replace(repo, pause_s=pause_s))) as ours, running(LocalHub(repo)) as theirs:
        monkeypatch.setenv("HF_ENDPOINT", ours.url)
        monkeypatch.setenv("THEIR_HUB", theirs.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "ours"))
        expected = asyncio.run(said(str(folder), tmp_path / "cache", None))
        assert asyncio.run(said("someone/layers", tmp_path / "cache", spread)) == expected
    here, there = ({file.name for file in (tmp_path / one).rglob("blobs/*")} for one in ("ours", "theirs"))
    assert there <= here
    assert len(here - there) == missing


@pytest.mark.parametrize(
    ("architecture", "ranks", "more", "why"),
    [
        ("llama", 3, {}, "its 4 and 2 heads don't come out even"),
        ("mamba", 2, {}, "mlx-lm can't spread models of this type (mamba)"),
        ("llama", 2, {"kv_bits": StateBits((8,))}, "can't have --kv-bits"),
    ],
)
def test_what_cannot_be_spread_is_refused(
    tiny_model: Callable[[str], Path], architecture: str, ranks: int, more: dict[str, Any], why: str
) -> None:
    async def scenario() -> None:
        folder = tiny_model(architecture)
        async with Supervised(str(folder), "lm", wait_ready=False, hosts=hosts(ranks), **more) as world:
            with pytest.raises(StartError) as caught:
                await asyncio.wait_for(world.running, TIME_S)
            assert why in str(caught.value)

    asyncio.run(scenario())
