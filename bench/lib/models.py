"""The comparison on real weights: the bare engine loop against the server over HTTP, in pairs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lib.pairs import Pair, Side, interleave, others_cores, spread, token_difference
from lib.processes import EngineProcess, ServerProcess
from lib.prompts import prompt_texts
from lib.summary import Row, percentiles_ms
from load import LoadResult, LoadSpec, measure

WARM_UP_SEED = 1
WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One model at one number of clients; `requests` and `max_tokens` are those of one repetition."""

    model: str
    clients: int
    requests: int
    max_tokens: int
    target_ratio: float


@dataclass(frozen=True, slots=True)
class CaseResult:
    case: Case
    setting: dict[str, int]
    calibration: list[dict[str, Any]]
    pairs: list[Pair]
    rows: list[Row]

    def figures(self) -> dict[str, Any]:
        """The row of the table. Ratios are per pair; latencies are pooled over all pairs."""
        return {
            "model": self.case.model,
            "clients": self.case.clients,
            "pairs": len(self.pairs),
            "baseline_tokens_per_s": spread([pair.baseline.tokens_per_s for pair in self.pairs]).median,
            "server_tokens_per_s": spread([pair.server.tokens_per_s for pair in self.pairs]).median,
            "ratio": asdict(spread([pair.ratio for pair in self.pairs])),
            "target_ratio": self.case.target_ratio,
            "others_cores": others_cores(self.pairs),
            "token_difference": token_difference(self.pairs),
            "cached_prompt_tokens": sum(row.cached_tokens for row in self.rows),
            "failed": sum(row.outcome != "ok" for row in self.rows),
            "ttft_ms": percentiles_ms([row.ttft_s for row in self.rows if row.ttft_s is not None]),
            "itl_ms": percentiles_ms([gap for row in self.rows for gap in row.gaps_s]),
            "setting": self.setting,
        }


def measure_model(
    cases: Sequence[Case],
    pairs: int,
    engine: EngineProcess,
    launch: Callable[[int], ServerProcess],
    say: Callable[[str], None],
) -> list[CaseResult]:
    """Measures each case with the engine kept loaded and a server launched with as many rows as clients."""
    results: list[CaseResult] = []
    for case in cases:
        with launch(case.clients) as server:
            results.append(_measure_case(case, pairs, engine, server, say))
    return results


def _measure_case(
    case: Case, pairs: int, engine: EngineProcess, server: ServerProcess, say: Callable[[str], None]
) -> CaseResult:
    rows: list[Row] = []

    def bare_side(index: int) -> Side:
        answer = engine.ask("run", case.clients, case.requests, case.max_tokens, index * case.requests)
        return Side(answer["tokens"], answer["tokens_per_s"], answer)

    def server_side(index: int) -> Side:
        prompts = prompt_texts(case.requests, first=index * case.requests)
        result = _serve(server, prompts, case.clients, case.max_tokens)
        rows.extend(result.rows)
        return Side(result.summary.tokens, result.summary.tokens_per_s, asdict(result.summary))

    calibration = engine.ask("calibrate", case.clients, case.max_tokens)
    warm_up = prompt_texts(2 * case.clients, seed=WARM_UP_SEED)
    _serve(server, warm_up, case.clients, WARM_UP_TOKENS)
    measured = interleave(
        pairs,
        bare_side,
        server_side,
        lambda pair: say(
            f"{case.model}, {case.clients} clients: bare {pair.baseline.tokens_per_s:.1f}, "
            f"server {pair.server.tokens_per_s:.1f} tokens/s, ratio {pair.ratio:.3f}"
            f" (others: {pair.baseline.others_cores:.2f} and {pair.server.others_cores:.2f} cores)"
        ),
    )
    return CaseResult(case, measured[0].baseline.detail["setting"], calibration, measured, rows)


def _serve(server: ServerProcess, prompts: list[str], clients: int, max_tokens: int) -> LoadResult:
    return measure(LoadSpec(url=server.url, prompts=prompts, max_tokens=max_tokens, clients=clients))


def model_cases(model: str, quick: bool) -> list[Case]:
    """SmolLM2 at 1, 4, 8 and 16 clients; the tiny llama, whose steps cost little, at 1, 8 and 32."""
    if model == "smollm2":
        target, max_tokens, requests = 0.97, 48, {1: 3, 4: 8, 8: 16, 16: 32}
    else:
        target, max_tokens, requests = 0.98, 128, {1: 8, 8: 32, 32: 64}
    if quick:
        max_tokens, requests = 24, {clients: max(4, clients) for clients in requests}
    return [Case(model, clients, count, max_tokens, target) for clients, count in requests.items()]
