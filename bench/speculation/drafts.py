"""What a draft model gains or costs: speed, acceptance and equality of the answers, with it and without.

`python bench/speculation/drafts.py MODEL [--draft PATH]...`. Without `--draft` the model is its own draft (always
right, and as slow as the model: what a draft can't do better than in acceptance), and so is a tiny random llama with
the model's tokenizer (nearly always wrong, nearly free: what a useless draft costs). Plain decoding and each draft
take turns.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.inside import become_a_worker
from lib.prompts import prompt_texts

PREFILL_STEP_SIZE = 512


@dataclass(frozen=True, slots=True)
class Run:
    """One prompt's answer: its tokens, how long they took in seconds, and what the draft proposed and got right."""

    tokens: list[int]
    seconds: float
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Case:
    """An engine under a name; `proposals` at a time, 0 for plain decoding."""

    name: str
    engine: Any
    proposals: int


def measure(case: Case, prompt: list[int], max_tokens: int) -> Run:
    """Decode one prompt greedily to `max_tokens`."""
    from mlx_server.schemas.internal.generation import Limits, Sampling
    from mlx_server.workers.engine.sequence import Sequence, Token

    sequence = Sequence((0, 0), prompt, max_tokens, Sampling(temperature=0.0), Limits(ignore_eos=True))
    sequence.draft_tokens = case.proposals
    case.engine.add(sequence)
    started_s = perf_counter()
    while case.engine.busy:
        for item in case.engine.step():
            assert isinstance(item, Token), item
    return Run(sequence.emitted, perf_counter() - started_s, sequence.drafted, sequence.accepted)


def make_cases(model_path: Path, draft_paths: Iterable[Path], proposals: list[int]) -> tuple[list[Case], Any]:
    """Plain decoding first, then each draft with each number of proposals; and the tokenizer."""
    from mlx_server.schemas.internal.messages import Load
    from mlx_server.workers.engine.decode.companions import load_draft
    from mlx_server.workers.engine.decode.sequential import SequentialEngine
    from mlx_server.workers.engine.decode.speculative import SpeculativeEngine
    from mlx_server.workers.engine.loading.loading import evaluate, read_model, read_tokenizer
    from mlx_server.workers.engine.runtime import platform

    platform.configure()
    model, config, _ = read_model(model_path, "auto")
    evaluate(model, lambda _: None)
    tokenizer, _ = read_tokenizer(model_path, config)
    cases = [Case("plain", SequentialEngine(model, set(), prefill_step_size=PREFILL_STEP_SIZE), 0)]
    for path in draft_paths:
        spec = Load(str(model_path), "lm", 1, PREFILL_STEP_SIZE, str(path))
        draft = load_draft(str(path), spec, model, tokenizer, lambda _: None)
        engine = SpeculativeEngine(model, draft, set(), prefill_step_size=PREFILL_STEP_SIZE)
        cases += [Case(f"{path.name}, {count}", engine, count) for count in proposals]
    return cases, tokenizer


def table(cases: list[Case], runs: dict[str, list[Run]]) -> str:
    """One line per case, ratios against plain decoding of the same prompt."""
    plain = runs["plain"]
    lines = ["| draft, proposals | tok/s | speed-up | accepted | equal answers |", "| --- | --- | --- | --- | --- |"]
    for case in cases:
        own = runs[case.name]
        rate = sum(len(run.tokens) for run in own) / sum(run.seconds for run in own)
        ratios = sorted(before.seconds / run.seconds for before, run in zip(plain, own, strict=True))
        drafted = sum(run.drafted for run in own)
        accepted = f"{sum(run.accepted for run in own) / drafted:.0%}" if drafted else "-"
        equal = sum(before.tokens == run.tokens for before, run in zip(plain, own, strict=True))
        speed_up = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append(f"| {case.name} | {rate:.1f} | {speed_up} | {accepted} | {equal} of {len(own)} |")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        drafts = options.draft
        if not drafts:
            from make_tiny import make_tiny

            drafts = [options.model, make_tiny(options.model, Path(folder) / "random")]
        cases, tokenizer = make_cases(options.model, drafts, options.proposals)
        runs: dict[str, list[Run]] = {case.name: [] for case in cases}
        texts = prompt_texts(options.prompts + 1)
        for number, text in enumerate(texts):
            prompt = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
            for case in cases:
                measured = measure(case, list(prompt), options.max_tokens)
                if number:  # the first prompt is the warm-up
                    runs[case.name].append(measured)
        print(table(cases, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="MLX folder")
    parser.add_argument("--draft", type=Path, action="append", help="MLX folder of a draft; repeat it for several")
    parser.add_argument("--proposals", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=64)
    options = parser.parse_args()
    become_a_worker()
    run(options)


if __name__ == "__main__":
    main()
