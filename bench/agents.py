"""How much of an agent's conversation is read again, turn by turn, by this server and by others.

`.venv/bin/python bench/agents.py` replays recorded sessions of coding agents, two conversations in turns, on tiny
random models of three kinds: plain attention, sliding windows, and recurrent layers. Each turn asks for one token, so
that its time is the prompt's; all servers have the same BLAS. vllm-mlx takes part where `make bench-peers` has made its
environment. With `--against FOLDER` another checkout of this server takes part, in its own environment, and the time is
compared that a prompt of 30,000 tokens with 25 tools takes outside the engine when all but its end is known: on a model
that computes next to nothing. Tables and raw rows go to results/agents.{md,json}; `--rounds 0` leaves the replay out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, zip_longest
from pathlib import Path
from typing import Any

import httpx
from lib.hardware import this_machine
from lib.others import OthersWatch
from lib.peer_servers import OURS, Command, Peer, Running, alike, others, ours, separate
from lib.summary import percentile

BENCH = Path(__file__).parent
ROOT = BENCH.parent
sys.path.insert(0, str(ROOT / "tests"))
from rich.console import Console  # noqa: E402
from support.running.oracles import CONTEXT, add_marks, write_template  # noqa: E402
from support.tiny.models import make_model  # noqa: E402

from mlx_server.app.config.settings import default_cache_dir  # noqa: E402
from mlx_server.app.demo.demo import ensure_demo_model  # noqa: E402

KINDS = {"plain": "llama", "sliding window": "gemma3_text", "recurrent": "qwen3_next"}
AGENTS = ("qwen-code", "opencode", "cline")
"""Those that speak chat completions, which all servers know."""

AGAINST = "before"
NOTHING = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
"""The config of a model that computes next to nothing."""

LONG_TOKENS, LONG_TOOLS = 30_000, 25
CHARACTERS_PER_TOKEN = 3.6
"""Of the recorded prompts with the demo model's tokenizer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a replay. `before` are the tokens that the conversation's turn before it had, 0 for the first;
    `cached_tokens` is None from a server that does not tell."""

    kind: str
    server: str
    round: int
    session: str
    number: int
    before: int
    prompt_tokens: int
    cached_tokens: int | None
    seconds: float
    others_cores: float


def sessions() -> dict[str, list[dict[str, Any]]]:
    """The recorded conversations by their agents: each turn's messages and tools."""
    found = {}
    for name in AGENTS:
        trace = gzip.decompress((ROOT / "tests" / "agents" / "traces" / f"{name}.jsonl.gz").read_bytes())
        bodies = [json.loads(line)["body"] for line in trace.splitlines()]
        most = max(len(body.get("tools") or ()) for body in bodies)
        found[name] = [
            {"messages": body["messages"], "tools": body["tools"]}
            for body in bodies
            if len(body.get("tools") or ()) == most
        ]
    return found


def long_prompt() -> dict[str, Any]:
    """About LONG_TOKENS with LONG_TOOLS: what all recorded sessions said and offered, one after the other, as often as
    it takes."""
    last = [session[-1] for session in sessions().values()]
    tools = {tool["function"]["name"]: tool for body in last for tool in body["tools"]}
    messages = [message for body in last for message in body["messages"]]
    offered = list(tools.values())[:LONG_TOOLS]
    first, *others_ = messages
    characters = len(json.dumps([offered, first]))
    said = [first]
    for message in cycle(others_):
        if (characters := characters + len(json.dumps(message))) > LONG_TOKENS * CHARACTERS_PER_TOKEN:
            break
        said.append({**message, "role": "user"} if message["role"] == "system" else message)
    return {"messages": said, "tools": offered}


def make_folder(source: Path, folder: Path, architecture: str, **more: Any) -> Path:
    """A random model of an architecture with the demo model's tokenizer and a chat template that knows tools; `more` is
    for its config."""
    folder.mkdir()
    vocabulary = add_marks(source, folder)
    made = make_model(folder, architecture, vocabulary=vocabulary, max_position_embeddings=CONTEXT, **more)
    write_template(folder, "lenient")
    return made


def replay(client: httpx.Client, peer: Peer, kind: str, number: int) -> list[Turn]:
    """Two conversations in turns, then the third; no round has prompts of another."""
    first, second, *rest = sessions().items()
    order = [turn for pair in zip_longest(labelled(first), labelled(second)) for turn in pair if turn is not None]
    order += [turn for session in rest for turn in labelled(session)]
    before: dict[str, int] = {}
    turns = []
    for name, place, body in order:
        with OthersWatch() as watch:
            prompt, known, seconds = ask(client, peer, marked(body, f"Round {number} of {peer.name}."))
        turns.append(
            Turn(kind, peer.name, number, name, place, before.get(name, 0), prompt, known, seconds, watch.cores)
        )
        before[name] = prompt
    return turns


def labelled(session: tuple[str, list[dict[str, Any]]]) -> list[tuple[str, int, dict[str, Any]]]:
    """A session's turns with its name and their numbers."""
    name, bodies = session
    return [(name, place, body) for place, body in enumerate(bodies)]


def marked(body: dict[str, Any], mark: str) -> dict[str, Any]:
    """A request whose conversation begins like no other round's."""
    first, *others_ = body["messages"]
    content = first["content"]
    said = f"{mark} {content}" if isinstance(content, str) else [{"type": "text", "text": mark}, *content]
    return {**body, "messages": [{**first, "content": said}, *others_]}


def ask(client: httpx.Client, peer: Peer, body: dict[str, Any]) -> tuple[int, int | None, float]:
    """One token for a prompt: its tokens, those that were known if that is told, and the seconds it took."""
    model = {} if peer.model is None else {"model": peer.model}
    began = time.perf_counter()
    answer = client.post(f"{peer.url}/chat/completions", json={**body, **model, "max_tokens": 1, "temperature": 0})
    seconds = time.perf_counter() - began
    answer.raise_for_status()
    usage = answer.json()["usage"]
    return usage["prompt_tokens"], (usage.get("prompt_tokens_details") or {}).get("cached_tokens"), seconds


def overheads(client: httpx.Client, peers: Sequence[Peer], times: int) -> dict[str, list[float]]:
    """Seconds for a long prompt when all but its last message is known, by server, in turns."""
    body = long_prompt()
    for peer in peers:
        ask(client, peer, body)
    found: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(times):
        for peer in peers if number % 2 else reversed(peers):
            # A little is new each time, as in an agent's next turn.
            asked = {**body, "messages": [*body["messages"], {"role": "user", "content": f"Go on: {number}"}]}
            found[peer.name].append(ask(client, peer, asked)[2])
    return found


def reuse(turns: Sequence[Turn]) -> str:
    """Share of what the turns before already held that was not read again."""
    later = [(turn.cached_tokens, turn.before) for turn in turns if turn.before]
    known = [min(cached, before) for cached, before in later if cached is not None]
    return f"{sum(known) / sum(before for _, before in later):.3f}" if known else "not told"


def seconds_of(turns: Sequence[Turn]) -> float:
    """All that prompts took in one round."""
    return sum(turn.seconds for turn in turns)


def table(turns: Sequence[Turn], late: dict[str, list[float]]) -> str:
    """The figures: ratios are per round, this server's over the other's."""
    lines = [
        "| model | server | reused | prompts, s | this server's share of its time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind in dict.fromkeys(turn.kind for turn in turns):
        for server in dict.fromkeys(turn.server for turn in turns):
            rounds = sorted({turn.round for turn in turns})

            def of(name: str, number: int, kind: str = kind) -> list[Turn]:
                return [turn for turn in turns if (turn.kind, turn.server, turn.round) == (kind, name, number)]

            own = [turn for number in rounds for turn in of(server, number)]
            if not own:
                continue
            ratios = sorted(seconds_of(of(OURS, number)) / seconds_of(of(server, number)) for number in rounds)
            middle = percentile(ratios, 50)
            share = "1" if server == OURS else f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            taken = percentile(sorted(seconds_of(of(server, number)) for number in rounds), 50)
            lines.append(f"| {kind} | {server} | {reuse(own)} | {taken:.2f} | {share} |")
    if late:
        p95 = {name: percentile(sorted(values), 95) for name, values in late.items()}
        lines += ["", "| server | known prompt, p95, ms | ratio |", "| --- | --- | --- |"]
        lines += [f"| {name} | {1000 * value:.0f} | {p95[OURS] / value:.2f} |" for name, value in p95.items()]
    return "\n".join(lines)


def main() -> int:
    """Replay, show the tables, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout, with an environment in its .venv")
    parser.add_argument("--again", type=int, default=200, help="how often the long prompt is sent to each")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "agents", help="stem of the results")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    machine = this_machine()
    source = ensure_demo_model(default_cache_dir(), Console(stderr=True))
    turns: list[Turn] = []
    late: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="mlx-server-bench-") as scratch, httpx.Client(timeout=600) as client:
        for kind, architecture in KINDS.items() if options.rounds else ():
            folder = make_folder(source, Path(scratch) / architecture, architecture)
            peers = [others(folder)[0], *separate(folder, folder.parent, ["vllm-mlx"])]
            commands = [ours(folder, 4), *alike(peers), *earlier(folder, options.against)]
            with Running(commands, Path(scratch)) as running:
                for number in range(options.rounds):
                    for peer in running.peers if number % 2 else reversed(running.peers):
                        turns += replay(client, peer, kind, number)
                        console.print(f"{kind}, round {number}, {peer.name}: done")
        if options.against:
            folder = make_folder(source, Path(scratch) / "nothing", "llama", **NOTHING)
            with Running([ours(folder, 4), *earlier(folder, options.against)], Path(scratch)) as running:
                late = overheads(client, running.peers, options.again)
    shown = table(turns, late)
    command = " ".join(["python", *sys.argv])
    options.out.with_suffix(".md").write_text(f"{machine.line()}\n\n`{command}`\n\n{shown}\n")
    rows = {"machine": asdict(machine), "command": command, "turns": [asdict(turn) for turn in turns], "late_s": late}
    options.out.with_suffix(".json").write_text(json.dumps(rows, indent=1))
    print(shown)
    return 0


def earlier(folder: Path, checkout: Path | None) -> list[Command]:
    """The same server from another checkout."""
    if checkout is None:
        return []
    home = ("env", f"HOME={folder.parent}")  # what a newer server has stored is of no use to it
    words = (*home, str(checkout.resolve() / ".venv" / "bin" / "python"), *ours(folder, 4).words[1:])
    return [Command(AGAINST, words, None, "/health/ready")]


if __name__ == "__main__":
    sys.exit(main())
