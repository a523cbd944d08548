"""Every example runs, as a newcomer would run it, against a real server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from support.examples import EXAMPLES, run_notebook, run_script
from support.running import sdks
from support.running.servers import Server
from support.tiny.models import make_model

PARIS = "The capital of France is Paris."

# What SmolLM2 is sure to say, or is made to.
SAYS = {
    "anthropic_client.py": [f"Message: {PARIS} (end_turn)", "Call: get_weather {'city': ", "Tokens of the prompt: 37"],
    "function_calling.py": [
        "Called get_weather({'city': 'Paris'}): The weather in Paris: 18",
        "Streamed: get_weather|",
    ],
    "openai_client_example.py": [f"Chat: {PARIS}", "Usage: 37 tokens in, 8 out", "same answer", "Refused: 400 temp"],
    "reasoning.py": ["does not reason"],
    "responses.py": [f"First: {PARIS}", "Streamed: ", "Background: completed"],
    "structured_output.py": ["Model: Review(mood=", "Schema: {'euros': ", "Choice: ", "Pattern: EUR "],
}
SHOWS = {
    "function_calling_examples.ipynb": ['get_weather {"city": "Paris"} -> The weather in Paris: 18 degrees and rain.'],
    "structured_outputs_examples.ipynb": ["Review(mood=", "{'rooms': [{'name': ", " = ", "|"],
}
# They are tried beside this file.
OF_OTHER_MODELS = {
    "dictation.py",
    "draw.py",
    "podcast_to_srt.py",
    "read_aloud.py",
    "semantic_search.py",
    "audio_examples.ipynb",
    "image_examples.ipynb",
    "lm_embeddings_examples.ipynb",
    "rag_examples.ipynb",
    "vision_examples.ipynb",
    "vlm_embeddings_examples.ipynb",
}


@pytest.fixture(scope="module")
def printed(request: pytest.FixtureRequest, smollm2_server: Server) -> Iterator[dict[str, Future[str]]]:
    def run(name: str) -> str:
        return run_script(name, smollm2_server) if name in SAYS else run_notebook(name, BASE=smollm2_server)

    with sdks.side_by_side(request, "name", run) as running:
        yield running


@pytest.mark.model
@pytest.mark.parametrize("name", [*SAYS, *SHOWS])
def test_example_runs(name: str, printed: dict[str, Future[str]]) -> None:
    said = printed[name].result()
    for text in {**SAYS, **SHOWS}[name]:
        assert text in said, said


@pytest.mark.model
def test_embedded_server_answers(smollm2: Path) -> None:
    said = sdks.outcome([sys.executable, EXAMPLES / "embedded.py", "--model-path", smollm2])
    assert f"Answer: {PARIS}" in said


@pytest.mark.model
def test_batch_gets_through_a_short_queue(smollm2: Path, launch: Callable[..., Server]) -> None:
    server = launch("--model-path", smollm2, "--queue-size", 4, "--max-concurrency", 4)
    said = sdks.outcome([sdks.python(), EXAMPLES / "batch_of_requests.py", "--base-url", server.url])
    assert "20 answers in " in said
    assert server.stats()["refused"] > 0


@pytest.mark.model
def test_reasoning_shows_thoughts_apart(tmp_path: Path, launch: Callable[..., Server]) -> None:
    thinker = make_model(tmp_path, "llama", thinks=True)
    server = launch("--model-path", thinker, "--chat-template-args", json.dumps({"opens_thinking": True}))
    said = sdks.outcome([sdks.python(), EXAMPLES / "reasoning.py", "--base-url", server.url])
    thinking, _, answering = said.partition("Without thoughts:")
    assert "\nThinks: " in thinking
    assert "\nSays: " in answering


def test_every_example_is_tried() -> None:
    found = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert found == {*SAYS, *SHOWS, *OF_OTHER_MODELS, "embedded.py", "batch_of_requests.py"}


@pytest.mark.parametrize("notebook", sorted(path.name for path in EXAMPLES.glob("*.ipynb")))
def test_notebook_is_kept_without_outputs(notebook: str) -> None:
    cells = json.loads((EXAMPLES / notebook).read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
