import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_server.workers.parent.environment import (
    backend_problem,
    child_environment,
    mlx_backends,
    openblas,
    usable_cores,
)

WITHOUT_MLX = (
    "parent.supervisor",
    "channel",
    "parent.environment",
    "engine.sequence",
    "child.engine_thread",
    "child.process",
    "handlers.scripted",
)


@pytest.mark.parametrize("module", WITHOUT_MLX)
def test_importing_a_module_outside_the_engine_loads_no_mlx(module: str) -> None:
    code = f"import sys, mlx_server.workers.{module}; print('mlx' in sys.modules or 'mlx.core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_child_environment_keeps_the_parents() -> None:
    base = {"HOME": "/home/ann", "LANG": "C"}
    assert child_environment(base).items() >= base.items()
    assert base == {"HOME": "/home/ann", "LANG": "C"}
    assert child_environment(base)["TOKENIZERS_PARALLELISM"] == "false"


def test_child_environment_preloads_openblas_only_where_it_is_and_helps() -> None:
    library = openblas() if mlx_backends() == {"cpu"} else None
    assert child_environment({}).get("LD_PRELOAD") == library
    if library:
        assert sys.platform == "linux"
        with_another = child_environment({"LD_PRELOAD": "libfirst.so"})["LD_PRELOAD"]
        assert sorted(with_another.split()) == sorted([library, "libfirst.so"])
        assert child_environment({"LD_PRELOAD": library})["LD_PRELOAD"] == library
    else:
        assert child_environment({"LD_PRELOAD": "libfirst.so"})["LD_PRELOAD"] == "libfirst.so"


@pytest.mark.skipif(openblas() is None or mlx_backends() != {"cpu"}, reason="needs OpenBLAS and MLX's CPU backend")
def test_a_process_with_the_child_environment_has_openblas_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/maps').read())"],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert "openblas" in done.stdout


def test_mlx_backends_knows_what_is_installed_without_loading_it() -> None:
    expected = "metal" if sys.platform == "darwin" else "cpu"
    assert expected in mlx_backends()


def test_cores_are_no_more_than_the_quota_and_at_least_one(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("10000 100000")
    assert usable_cores(tmp_path, tmp_path / "own") == 1
    (tmp_path / "cpu.max").write_text("max 100000")
    assert 1 <= usable_cores(tmp_path, tmp_path / "own") <= (os.cpu_count() or 1)


def test_threads_are_as_many_as_the_cores_unless_the_user_says_otherwise() -> None:
    if openblas() is not None and mlx_backends() == {"cpu"}:
        assert child_environment({})["OPENBLAS_NUM_THREADS"] == str(usable_cores())
    assert child_environment({"OPENBLAS_NUM_THREADS": "7"})["OPENBLAS_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("backends", "platform", "part"),
    [
        ({"cpu"}, "linux", None),
        ({"cuda"}, "linux", None),
        ({"metal"}, "darwin", None),
        (set(), "darwin", None),
        (set(), "linux", "pip install 'mlx[cpu]>="),
        ({"cpu", "cuda"}, "linux", "each overwrites the other's library"),
    ],
)
def test_backends_must_be_exactly_one(backends: set[str], platform: str, part: str | None) -> None:
    problem = backend_problem(backends, platform)
    assert (problem is None) == (part is None)
    assert part is None or part in str(problem)
