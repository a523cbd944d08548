"""What a draft gains or costs in the batch: speed, steps, acceptance and equality of the answers.

`python bench/speculation/drafts.py MODEL [--draft PATH]... [--heads] [--clients 1 8] [--pairs 5] [--ask 3]`. A draft is
a small model, or a head that was trained for the model (MTP, EAGLE-3, DFlash). Without `--draft` there are six: the
model itself (always right, and as slow as the model), a tiny random llama with the model's tokenizer (nearly always
wrong, nearly free), the model as the draft of a copy of it with `--idle` times as many layers more that change nothing
(always right, at a part of the cost: what a good draft gains), and a head of each kind for a tiny model with as many
idle layers, which takes the next token to follow from the latest alone (MTP and EAGLE-3 are often right, at a part of
the cost); `--heads` has these alone. How many tokens pay is measured; with `--ask` so many are proposed whatever they
cost. The engine with the draft and the one without it take turns over the same prompts.
"""

import argparse
import copy
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from lib.inside import become_a_worker
from lib.pairs import Pair, Side, interleave, spread
from lib.prompts import prompt_texts
from support.tiny.draft_heads import KINDS, make_easy, make_head

PREFILL_STEP_SIZE = 512
TEMPERATURE = 0.8
"""Of a tiny model with heads: greedily it would go round in circles, and repetition alone would be guess enough."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model's engines without a draft and with one."""

    name: str
    without: Any
    with_: Any
    tokenizer: Any
    temperature: float = 0.0


def measure(
    engine: Any, prompts: list[list[int]], max_tokens: int, ask: int | None = None, temperature: float = 0.0
) -> Side:
    """Decode prompts together, to `max_tokens` each; `ask` for so many proposals at a time."""
    from mlx_server.schemas.internal.generation import Limits, Sampling
    from mlx_server.workers.engine.sequence import Sequence, Token

    sequences = [
        Sequence(
            (number, 0), prompt, max_tokens, Sampling(temperature=temperature, seed=number), Limits(ignore_eos=True)
        )
        for number, prompt in enumerate(prompts)
    ]
    started_s = perf_counter()
    for one in sequences:
        one.speculate, one.draft_tokens, one.use_cache = "auto", ask, False
        engine.add(one)
    steps = 0
    while engine.busy:
        for item in engine.step():
            assert isinstance(item, Token), item
        steps += 1
    seconds = perf_counter() - started_s
    tokens = sum(len(one.emitted) for one in sequences)
    counts = {"drafted": sum(one.drafted for one in sequences), "accepted": sum(one.accepted for one in sequences)}
    return Side(tokens, tokens / seconds, {**counts, "steps": steps, "answers": [one.emitted for one in sequences]})


@dataclass(frozen=True, slots=True)
class Asking:
    """Has an engine answer each pair's prompts."""

    tokenizer: Any
    engine: Any
    clients: int
    max_tokens: int
    ask: int | None
    temperature: float

    def __call__(self, pair: int) -> Side:
        texts = prompt_texts(self.clients, pair * self.clients)
        said = [[{"role": "user", "content": text}] for text in texts]
        prompts = [list(self.tokenizer.apply_chat_template(one, add_generation_prompt=True)) for one in said]
        return measure(self.engine, prompts, self.max_tokens, self.ask, self.temperature)


def deepened(model: Any, times: int) -> Any:
    """A copy of a llama with `times` as many layers more, which add nothing to what passes them."""
    import mlx.core as mx

    deeper = copy.deepcopy(model)
    for layer in model.model.layers * times:
        idle = copy.deepcopy(layer)
        for last in (idle.self_attn.o_proj, idle.mlp.down_proj):
            last.weight = mx.zeros_like(last.weight)
        deeper.model.layers.append(idle)
    mx.eval(deeper.parameters())
    return deeper


def make_engine(model: Any, tokenizer: Any, model_path: Path, draft_path: Path | None, rows: int) -> Any:
    """An engine as the server makes it, with a draft or without."""
    from mlx_server.schemas.internal.messages import Load
    from mlx_server.workers.engine.decode.batch import BatchEngine
    from mlx_server.workers.handlers.drafting import Draft, proposing

    draft_model = None if draft_path is None else str(draft_path)
    spec = Load(str(model_path), "lm", rows, PREFILL_STEP_SIZE, str(model_path.parent), draft_model=draft_model)
    draft, loaded = Draft.find(spec, model_path, lambda _: None), None
    if draft is not None:
        loaded = draft.load(spec, model, model.args.vocab_size, tokenizer, lambda _: None)
    return BatchEngine(
        loaded.model if loaded else model,
        set(),
        rows=rows,
        joint_prefill=True,
        prefill_step_size=PREFILL_STEP_SIZE,
        make_rows=proposing(loaded.proposes if loaded else None, spec, 0),
    )


def read(folder: Path) -> tuple[Any, Any]:
    """A folder's model, in memory, and its tokenizer."""
    from mlx_server.workers.engine.loading.loading import evaluate, read_model, read_tokenizer

    model, config, _ = read_model(folder, "auto")
    evaluate(model, lambda _: None)
    return model, read_tokenizer(folder, config)[0]


def make_cases(options: argparse.Namespace, folder: Path, rows: int) -> list[Case]:
    """A case for each draft, with engines that have measured nothing yet."""
    from make_tiny import make_tiny

    from mlx_server.workers.engine.runtime import platform

    platform.configure()
    if options.heads:
        return head_cases(folder / "easy", options.idle, rows)
    model, tokenizer = read(options.model)
    if options.draft:
        served = [(path.name, model, path) for path in options.draft]
    else:
        random_draft = folder / "random"
        if not random_draft.exists():
            make_tiny(options.model, random_draft)
        served = [
            ("itself", model, options.model),
            ("tiny random llama", model, random_draft),
            (f"itself, of {1 + options.idle} times its layers", deepened(model, options.idle), options.model),
        ]
    cases = [
        Case(name, *(make_engine(one, tokenizer, options.model, path, rows) for path in (None, draft)), tokenizer)
        for name, one, draft in served
    ]
    return cases if options.draft else [*cases, *head_cases(folder / "easy", options.idle, rows)]


def head_cases(folder: Path, idle: int, rows: int) -> list[Case]:
    """A tiny model of `idle` times as many layers more, with a head of each kind."""
    folder.mkdir(exist_ok=True)
    make_easy(folder)
    cases = []
    for kind in KINDS:
        model, tokenizer = read(folder)
        head, deeper = make_head(folder / kind, kind, folder), deepened(model, idle)
        engines = (make_engine(deeper, tokenizer, folder, path, rows) for path in (None, head))
        cases.append(Case(f"{kind} head, tiny model of {1 + idle} times its layers", *engines, tokenizer, TEMPERATURE))
    return cases


def line(name: str, clients: int, pairs: list[Pair]) -> str:
    """One line of the table: ratios of each pair, medians with their spread."""
    rate, steps = (
        spread(values)
        for values in (
            [pair.ratio for pair in pairs],
            [pair.server.detail["steps"] / pair.baseline.detail["steps"] for pair in pairs],
        )
    )
    drafted, accepted = (sum(pair.server.detail[what] for pair in pairs) for what in ("drafted", "accepted"))
    share = f"{accepted} of {drafted}" if drafted else "-"
    answers = [
        one == other
        for pair in pairs
        for one, other in zip(pair.baseline.detail["answers"], pair.server.detail["answers"], strict=True)
    ]
    cells = (
        f"{name}, {clients}",
        f"{rate.median:.2f} ({rate.low:.2f} to {rate.high:.2f})",
        f"{steps.median:.2f} ({steps.low:.2f} to {steps.high:.2f})",
        share,
        f"{sum(answers)} of {len(answers)}",
    )
    return f"| {' | '.join(cells)} |"


def run(options: argparse.Namespace) -> None:
    print("| draft, clients | tokens/s over without | steps over without | proposals right | answers equal |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for clients in options.clients:
            for case in make_cases(options, Path(folder), clients):
                sides = [
                    Asking(case.tokenizer, engine, clients, options.max_tokens, options.ask, case.temperature)
                    for engine in (case.without, case.with_)
                ]
                for side in sides:
                    side(options.pairs)  # warms up, and has it measure
                pairs = interleave(options.pairs, *sides, lambda _: None)
                print(line(case.name, clients, pairs), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="MLX folder")
    parser.add_argument("--draft", type=Path, action="append", help="folder of a draft; repeat it for several")
    parser.add_argument("--heads", action="store_true", help="the heads for a tiny model alone")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--ask", type=int, help="tokens to propose at a time, whatever they cost")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--idle", type=int, default=3, help="layers more, in times, of the model with a good draft")
    options = parser.parse_args()
    become_a_worker()
    run(options)


if __name__ == "__main__":
    main()
