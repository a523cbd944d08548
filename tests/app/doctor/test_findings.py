"""The doctor's judgments, as tables of machines."""

from dataclasses import replace

import pytest

from mlx_server.app.doctor.facts import Facts
from mlx_server.app.doctor.findings import Verdict, best_wired_limit_mb, examine
from mlx_server.schemas.internal.machine import MlxFacts

GB = 10**9
LINUX_MLX = MlxFacts("0.32.4", "cpu", "AMD EPYC", False, None, True, 180.0)
WITHOUT_BLAS = MlxFacts("0.32.4", "cpu", "AMD EPYC", False, None, False, 2.0)
LINUX = Facts(
    system="Linux",
    python="3.12.1",
    native_arm=False,
    backends=frozenset({"cpu"}),
    openblas="libopenblas.so.0",
    threads="2",
    packs=True,
    keeps_to_folders=True,
    leaves_network=True,
    cores=2,
    memory_bytes=24 * GB,
    available_bytes=20 * GB,
    cache_free_bytes=80 * GB,
    cache_problem=None,
    data_problem=None,
    wired_limit_mb=None,
    mlx=LINUX_MLX,
    mlx_error=None,
)
MAC = replace(
    LINUX,
    system="Darwin",
    native_arm=True,
    backends=frozenset({"metal"}),
    openblas=None,
    threads="",
    memory_bytes=32 << 30,
    wired_limit_mb=0,
    mlx=MlxFacts("0.32.4", "gpu", "Apple M2 Pro", True, 22_906_503_168, False, 5_000.0),
)


def findings(facts: Facts) -> dict[str, tuple[Verdict, str | None]]:
    return {finding.what: (finding.verdict, finding.advice) for finding in examine(facts)}


def test_good_machine_has_nothing_to_do() -> None:
    found = findings(LINUX)
    assert set(found) == {"Python", "MLX", "BLAS", "packing", "memory", "workers", "cache folder", "data folder"}
    assert set(found.values()) == {(Verdict.GOOD, None)}


@pytest.mark.parametrize(
    ("facts", "what", "verdict", "part"),
    [
        (replace(LINUX, openblas=None), "BLAS", Verdict.BAD, "apt-get install libopenblas0-pthread"),
        (replace(LINUX, mlx=WITHOUT_BLAS), "BLAS", Verdict.NOTICE, "LD_PRELOAD"),
        (replace(LINUX, keeps_to_folders=False), "workers", Verdict.NOTICE, "Landlock"),
        (replace(LINUX, leaves_network=False), "workers", Verdict.NOTICE, "Landlock"),
        (replace(LINUX, packs=False), "packing", Verdict.NOTICE, "pip install 'mlx[cpu]>="),
        (replace(LINUX, backends=frozenset(), mlx=None, mlx_error="x"), "MLX", Verdict.BAD, "'mlx[cpu]>="),
        (replace(LINUX, mlx=None, mlx_error="no library"), "MLX", Verdict.BAD, "Install mlx-server anew"),
        (replace(LINUX, available_bytes=GB), "memory", Verdict.NOTICE, "small model"),
        (replace(LINUX, cache_free_bytes=GB), "cache folder", Verdict.NOTICE, "--cache-dir"),
        (replace(LINUX, cache_problem="/x is no folder"), "cache folder", Verdict.BAD, "--cache-dir"),
        (replace(LINUX, data_problem="/x is no folder"), "data folder", Verdict.BAD, "--data-dir"),
        (replace(MAC, native_arm=False), "Python", Verdict.BAD, "arm64 Python"),
        (MAC, "wired memory", Verdict.NOTICE, "sudo sysctl iogpu.wired_limit_mb=27648 iogpu.wired_lwm_mb=24576"),
    ],
)
def test_trouble_is_named_with_what_to_do(facts: Facts, what: str, verdict: Verdict, part: str) -> None:
    found, advice = findings(facts)[what]
    assert found is verdict
    assert part in str(advice)


def test_two_backends_are_one_too_many() -> None:
    bad = [f for f in examine(replace(LINUX, backends=frozenset({"cpu", "cuda"}))) if f.verdict is Verdict.BAD]
    assert [finding.what for finding in bad] == ["MLX"]
    assert "each overwrites the other's library" in str(bad[0].advice)


def test_mac_with_a_raised_limit_is_good() -> None:
    mlx = MlxFacts("0.32.4", "gpu", "Apple M2 Pro", True, 27_648 << 20, False, 5_000.0)
    assert findings(replace(MAC, wired_limit_mb=27_648, mlx=mlx))["wired memory"] == (Verdict.GOOD, None)


@pytest.mark.parametrize(("memory_gib", "expected_mb"), [(8, 6553), (16, 13107), (32, 27648), (192, 191488)])
def test_wired_limit_leaves_a_fifth_but_at_most_five_gb(memory_gib: int, expected_mb: int) -> None:
    assert best_wired_limit_mb(memory_gib << 30) == expected_mb
