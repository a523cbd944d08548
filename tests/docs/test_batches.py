"""The recipes of the page on batches run as they are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.running import sdks
from support.running.servers import ROOT, Server

PAGE = (ROOT / "docs" / "batches.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8000"


def recipe(part: str) -> str:
    """The Python of the page that has the part."""
    [found] = [code for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if part in code]
    return str(found)


def said(code: str, server: Server, folder: Path) -> list[str]:
    """The lines that a recipe prints in a folder, with this server in place of its own."""
    assert HERE in code
    command = [sdks.python(), "-c", code.replace(HERE, server.root)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.model
def test_batch_of_questions_has_convincing_answers(smollm2_server: Server, tmp_path: Path) -> None:
    first, *answers = said(recipe("client.batches"), smollm2_server, tmp_path)
    assert first == "completed 3"
    assert "Paris" in next(answer for answer in answers if answer.startswith("country-0"))


@pytest.mark.model
def test_batch_of_messages_ends_with_a_result_for_each(smollm2_server: Server, tmp_path: Path) -> None:
    lines = said(recipe("client.messages.batches"), smollm2_server, tmp_path)
    assert sorted(lines) == ["colour-0 succeeded", "colour-1 succeeded"]


@pytest.mark.model
def test_recipe_of_the_command_line_answers_each_row(smollm2_server: Server, tmp_path: Path) -> None:
    [commands] = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "MLX_SERVER_URL": smollm2_server.root}
    subprocess.run(["bash", "-ec", commands], check=True, cwd=tmp_path, env=env, timeout=120)
    results = (tmp_path / "results.jsonl").read_text()
    assert '"custom_id":"first"' in results
    assert '"custom_id":"second"' in results
