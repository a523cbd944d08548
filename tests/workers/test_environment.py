import subprocess
import sys

import pytest

from mlx_server.workers.environment import child_environment, mlx_backends, openblas

PARENT_SIDE = ("supervisor", "channel", "environment", "sequence", "engine_thread", "process", "handlers.scripted")


@pytest.mark.parametrize("module", PARENT_SIDE)
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
