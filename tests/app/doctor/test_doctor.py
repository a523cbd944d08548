"""`mlx-server doctor` on this machine."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from rich.console import Console
from support.tiny.gguf_files import write_gguf

from mlx_server.app.cli.doctor_cli import offer_wired_limit, table_of
from mlx_server.app.doctor.facts import ask_mlx, existing, free_bytes, gather, write_problem
from mlx_server.app.doctor.findings import Finding, Verdict
from mlx_server.app.doctor.model_findings import NOT_CONVERTED
from mlx_server.app.machine.memory import Memory
from mlx_server.workers.folders.gguf import convert_gguf
from mlx_server.workers.parent.environment import child_environment, usable_cores


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlx_server.app", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def test_doctor_tells_what_a_worker_will_find(tmp_path: Path) -> None:
    facts = gather(tmp_path / "cache", tmp_path / "data", Memory(5 << 30, 1 << 30))
    assert facts.mlx_error is None
    assert facts.mlx is not None
    assert facts.mlx.gflops > 0
    assert facts.cores == usable_cores()
    assert (facts.memory_bytes, facts.available_bytes) == (5 << 30, 1 << 30)
    assert (facts.cache_problem, facts.data_problem) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_doctor_prints_what_to_install_whole() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(table_of([Finding("MLX", Verdict.BAD, "[none]", "pip install 'mlx[cpu]'")]))
    assert isinstance(console.file, io.StringIO)
    assert "[none]" in console.file.getvalue()
    assert "-> pip install 'mlx[cpu]'" in console.file.getvalue()


def test_doctor_prints_findings_as_json_too(tmp_path: Path) -> None:
    done = run("--json", "--cache-dir", tmp_path / "cache", "--data-dir", tmp_path / "data")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert {"Python", "MLX", "memory", "cache folder", "data folder"} <= set(findings)
    assert done.returncode == int(any(finding["verdict"] == "bad" for finding in findings.values()))


def test_bad_finding_ends_with_code_1_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("--cache-dir", tmp_path / "file")
    assert done.returncode == 1
    assert "is no folder" in done.stdout
    assert "--cache-dir" in done.stdout


def test_mlx_that_does_not_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx" / "__init__.py").write_text("raise ImportError('no library here')")
    facts, error = ask_mlx({**child_environment(), "PYTHONPATH": str(tmp_path)})
    assert (facts, error) == (None, "ImportError: no library here")


def test_folder_that_is_not_there_yet_is_judged_by_the_one_above(tmp_path: Path) -> None:
    assert write_problem(tmp_path / "a" / "b") is None
    assert free_bytes(tmp_path / "a" / "b") > 0
    assert existing(tmp_path / ("x" * 300) / "refused by the system") == tmp_path


@pytest.mark.parametrize("wanted", [True, False])
def test_memory_limits_are_raised_only_if_the_person_says_so(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ran: list[list[str]] = []
    monkeypatch.setattr(typer, "confirm", lambda question: asked.append(question) or wanted)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    facts = SimpleNamespace(memory_bytes=32 << 30)
    offer_wired_limit(facts, [Finding("wired memory", Verdict.NOTICE, "the GPU may hold 22.9 GB", "raise it")])
    assert asked == ["Run `sudo sysctl iogpu.wired_limit_mb=27648 iogpu.wired_lwm_mb=24576` now?"]
    settings = ["iogpu.wired_limit_mb=27648", "iogpu.wired_lwm_mb=24576"]
    assert ran == ([["/usr/bin/sudo", "/usr/sbin/sysctl", *settings]] if wanted else [])
    offer_wired_limit(facts, [Finding("wired memory", Verdict.GOOD, "the GPU may hold 29 GB")])
    assert len(asked) == 1


@pytest.mark.model
def test_a_model_is_looked_at_too(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    def found(folder: Path) -> list[tuple[str, str, str]]:
        done = run("--json", folder)
        rows = [row for row in json.loads(done.stdout) if row["what"] == "model" or ".json" in row["what"]]
        return [(row["what"], row["verdict"], row["found"]) for row in rows]

    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder)
    assert ("model", "good", "llama, served with --model-type lm") in found(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 30.0}))
    assert ("config.json", "notice", "final_logit_softcapping is 30.0, and nobody looks at it") in found(folder)
    (folder / "generation_config.json").write_text(json.dumps({"num_beams": 4}))
    told = "num_beams is 4, and nobody looks at it; usual for its type: 1"
    assert ("generation_config.json", "notice", told) in found(folder)
    (folder / "generation_config.json").write_text("{")
    assert any(
        "generation_config.json can't be read" in why for what, verdict, why in found(folder) if verdict == "bad"
    )
    (folder / "tokenizer.json").unlink()
    (folder / "generation_config.json").unlink()
    [(what, verdict, why)] = [row for row in found(folder) if row[0] == "model"]
    assert (what, verdict) == ("model", "bad")
    assert "tokenizer" in why


@pytest.mark.model
def test_metadata_of_a_gguf_file_is_looked_at_once_it_is_converted(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", metadata={"llama.attention.clamp_kqv": 8.0})
    cache = tmp_path / "cache"
    before = run("--json", "--cache-dir", cache, path)
    assert any(row["found"] == NOT_CONVERTED for row in json.loads(before.stdout))
    convert_gguf(path, cache, lambda step: None)
    [row] = [row for row in json.loads(run("--json", "--cache-dir", cache, path).stdout) if row["what"] == path.name]
    assert (row["verdict"], row["found"]) == ("notice", "llama.attention.clamp_kqv is 8.0, and nobody looks at it")
