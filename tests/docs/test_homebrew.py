"""The formula for Homebrew: Ruby's own parser reads it, and all flags that it gives are there."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.running.servers import ROOT

from mlx_server.app.cli.command_help import flags

FORMULA = ROOT / "examples" / "homebrew" / "mlx-server.rb"
PARSER = ROOT / "tests" / "clients" / "node" / "ruby_strings.mjs"
OF_CURL = {"--fail", "--silent", "--retry", "--retry-delay", "--retry-all-errors"}

pytestmark = pytest.mark.skipif(
    not (PARSER.parent / "node_modules").is_dir() or shutil.which("node") is None,
    reason="npm is missing: `make node` says how to get it",
)


def parsed(file: Path) -> dict[str, Any]:
    """What is wrong with a file of Ruby, and its strings."""
    told = subprocess.run(["node", "--no-warnings", PARSER, file], capture_output=True, text=True, check=True)
    return dict(json.loads(told.stdout))


def test_formula_is_ruby_and_gives_flags_that_there_are() -> None:
    read = parsed(FORMULA)
    assert read["problems"] == []
    given = {text for text in read["strings"] if text.startswith("--")} - OF_CURL
    assert {"--models-dir", "--data-dir", "--model-type"} <= given
    assert given <= {f"--{flag.name.replace('_', '-')}" for flag in flags()}


def test_mistake_in_a_formula_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "broken.rb"
    broken.write_text(FORMULA.read_text(encoding="utf-8").removesuffix("end\n"), encoding="utf-8")
    assert parsed(broken)["problems"]
