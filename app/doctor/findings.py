"""The doctor's judgments: pure functions of what was found, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from mlx_server.app.doctor.facts import WIRED_LIMIT, WIRED_LOW, Facts
from mlx_server.app.machine.sizes import memory_size, size
from mlx_server.workers.extras import install_line
from mlx_server.workers.parent.environment import backend_problem

LEAST_DISK_BYTES = 5 * 10**9
LEAST_MEMORY_BYTES = 2 * 10**9
WIRED_SHARE, LOW_SHARE = 0.8, 0.7
WIRED_REST_MB, LOW_REST_MB = 5 << 10, 8 << 10
"""What is left to the system when the limit and its low-water mark are raised, on machines with much memory."""


class Verdict(StrEnum):
    """How serious it is."""

    GOOD = "good"
    NOTICE = "notice"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, and what to do about it if anything is to be done."""

    what: str
    verdict: Verdict
    found: str
    advice: str | None = None


def examine(facts: Facts) -> list[Finding]:
    """All findings, in the order in which a person would mend them."""
    return [
        finding for look in (python, backend, blas, packed, memory, wired, confined, folders) for finding in look(facts)
    ]


def python(facts: Facts) -> Iterator[Finding]:
    """A Python that MLX has wheels for."""
    if facts.system == "Darwin" and not facts.native_arm:
        advice = "Install an arm64 Python (python.org, or Homebrew in /opt/homebrew): MLX runs on no other."
        yield Finding("Python", Verdict.BAD, f"{facts.python}, built for Intel", advice)
    else:
        yield Finding("Python", Verdict.GOOD, facts.python)


def backend(facts: Facts) -> Iterator[Finding]:
    """MLX computes."""
    problem = backend_problem(set(facts.backends), "darwin" if facts.system == "Darwin" else "linux")
    if problem is not None:
        found = ", ".join(sorted(facts.backends)) or "no backend"
        yield Finding("MLX", Verdict.BAD, found, problem)
    if facts.mlx is None:
        if problem is None:
            advice = "Install mlx-server anew, into an environment of its own."
            yield Finding("MLX", Verdict.BAD, f"does not run: {facts.mlx_error}", advice)
        return
    mlx = facts.mlx
    yield Finding("MLX", Verdict.GOOD, f"{mlx.mlx} on {mlx.device} ({mlx.name}), {mlx.gflops:,.0f} GFLOP/s in float32")


def blas(facts: Facts) -> Iterator[Finding]:
    """On a Linux CPU, an optimised BLAS."""
    if facts.system != "Linux" or facts.backends != {"cpu"}:
        return
    if facts.openblas is None:
        advice = (
            "sudo apt-get install libopenblas0-pthread (or your system's package of OpenBLAS): decoding gets several"
            " times faster, prefill twenty times."
        )
        yield Finding("BLAS", Verdict.BAD, "only MLX's own, which is not optimised", advice)
    elif facts.mlx is not None and not facts.mlx.openblas:
        advice = "Let workers preload it: does something in the environment overwrite LD_PRELOAD?"
        yield Finding("BLAS", Verdict.NOTICE, f"{facts.openblas} is there, but workers don't load it", advice)
    else:
        found = f"{facts.openblas}, preloaded in workers, {facts.threads} threads for {facts.cores} cores"
        yield Finding("BLAS", Verdict.GOOD, found)


def packed(facts: Facts) -> Iterator[Finding]:
    """On a Linux CPU, what multiplies with quantised weights as they are."""
    if facts.system != "Linux" or facts.backends != {"cpu"}:
        return
    if facts.packs:
        yield Finding("packing", Verdict.GOOD, "quantised weights stay packed, by numba")
    else:
        advice = f"{install_line('cpu', 'linux')}: a model of 4 bits takes a sixth of the memory, and is faster."
        yield Finding("packing", Verdict.NOTICE, "quantised weights become float32, as numba is missing", advice)


def memory(facts: Facts) -> Iterator[Finding]:
    """Memory for a model."""
    found = f"{memory_size(facts.memory_bytes)}, {memory_size(facts.available_bytes)} free"
    if facts.available_bytes < LEAST_MEMORY_BYTES:
        advice = "Close something large, or serve a small model."
        yield Finding("memory", Verdict.NOTICE, found, advice)
    else:
        yield Finding("memory", Verdict.GOOD, found)


def wired(facts: Facts) -> Iterator[Finding]:
    """On Metal, how much memory the GPU may hold."""
    if facts.wired_limit_mb is None or facts.mlx is None or facts.mlx.working_set_bytes is None:
        return
    best = best_wired_limit_mb(facts.memory_bytes)
    found = f"the GPU may hold {memory_size(facts.mlx.working_set_bytes)}"
    if facts.mlx.working_set_bytes >> 20 >= best:
        yield Finding("wired memory", Verdict.GOOD, found)
        return
    settings = " ".join(wired_settings(facts.memory_bytes))
    advice = f"For large models raise it: sudo sysctl {settings} (until the next start of the machine)."
    yield Finding("wired memory", Verdict.NOTICE, found, advice)


def confined(facts: Facts) -> Iterator[Finding]:
    """On Linux, what workers give up."""
    if facts.system != "Linux":
        return
    if facts.keeps_to_folders and facts.leaves_network:
        found = "write to their own folders only, and open no connections once their model is there"
        yield Finding("workers", Verdict.GOOD, found)
        return
    given = [
        *(["may write wherever this user may"] if not facts.keeps_to_folders else []),
        *(["may open connections"] if not facts.leaves_network else []),
    ]
    advice = "They can be kept from it by Linux 5.19 or newer with Landlock, on x86-64 and ARM."
    yield Finding("workers", Verdict.NOTICE, " and ".join(given), advice)


def best_wired_limit_mb(memory_bytes: int) -> int:
    """The larger of four fifths of the memory and all but 5 GiB."""
    return most_mb(memory_bytes, WIRED_SHARE, WIRED_REST_MB)


def wired_settings(memory_bytes: int) -> list[str]:
    """What `sysctl` is to set: the limit, and the mark below which nothing wired is taken back."""
    low = most_mb(memory_bytes, LOW_SHARE, LOW_REST_MB)
    return [f"{WIRED_LIMIT}={best_wired_limit_mb(memory_bytes)}", f"{WIRED_LOW}={low}"]


def most_mb(memory_bytes: int, share: float, rest_mb: int) -> int:
    """The larger of a share of the memory and all but a rest."""
    total_mb = memory_bytes >> 20
    return max(int(total_mb * share), total_mb - rest_mb)


def folders(facts: Facts) -> Iterator[Finding]:
    """Room for models, and places to write to."""
    found = f"{size(facts.cache_free_bytes)} free"
    if facts.cache_problem is not None:
        yield Finding("cache folder", Verdict.BAD, facts.cache_problem, "Choose another one with --cache-dir.")
    elif facts.cache_free_bytes < LEAST_DISK_BYTES:
        yield Finding("cache folder", Verdict.NOTICE, found, "Make room, or choose another disk with --cache-dir.")
    else:
        yield Finding("cache folder", Verdict.GOOD, found)
    if facts.data_problem is not None:
        yield Finding("data folder", Verdict.BAD, facts.data_problem, "Choose another one with --data-dir.")
    else:
        yield Finding("data folder", Verdict.GOOD, "can be written to")
