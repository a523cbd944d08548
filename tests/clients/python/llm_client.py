"""Simon Willison's `llm` command, with a private folder for its settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import ANSWER, KEY, QUESTION, run

COMMAND = Path(sys.executable).with_name("llm")
MODELS = """
- model_id: local
  model_name: local
  api_base: {url}
  supports_schema: true
"""
CAPITAL = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "large": {"type": "boolean"}},
    "required": ["city", "large"],
    "additionalProperties": False,
}


def llm(url: str, *arguments: str) -> str:
    """What the command prints."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "extra-openai-models.yaml").write_text(MODELS.format(url=url))
        command = [str(COMMAND), "-m", "local", "-o", "temperature", "0", "-o", "max_tokens", "60", *arguments]
        env = {**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": KEY}
        return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def streamed(url: str) -> None:
    assert llm(url, QUESTION) == ANSWER


def no_stream(url: str) -> None:
    assert llm(url, "--no-stream", QUESTION) == ANSWER


def schema(url: str) -> None:
    answer = json.loads(llm(url, "--no-stream", "--schema", json.dumps(CAPITAL), QUESTION))
    assert set(answer) == {"city", "large"}


if __name__ == "__main__":
    run(streamed, no_stream, schema)
