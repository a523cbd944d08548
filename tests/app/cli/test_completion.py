"""Completion in a real bash: installed by the command, and what it completes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("mlx-server")
ASK = """
source "$HOME/.bashrc"
COMP_WORDS=(mlx-server {words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_mlx_server_completion mlx-server
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")


def bash(script: str, home: Path) -> list[str]:
    """The lines that a script writes, with a home of its own."""
    env = {**os.environ, "HOME": str(home), "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the command has installed its completion, from within bash."""
    home = tmp_path_factory.mktemp("home")
    told = bash("mlx-server --install-completion; true", home)
    assert any("bash completion installed" in line for line in told), told
    return home


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("pu", {"pull"}),
        ("to", {"top"}),
        ("launch --model-ty", {"--model-type"}),
        ("models s", {"show", "search"}),
        ("launch --model-type ''", {"lm", "vlm", "embeddings", "rerank", "audio", "image"}),
    ],
)
def test_commands_and_flags_are_completed(home: Path, words: str, completed: set[str]) -> None:
    assert {line for line in bash(ASK.format(words=words), home) if line} == completed
