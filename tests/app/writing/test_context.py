"""How much one request may have, and whether it can be kept for the next turn: told before it is a surprise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running.servers import Server, serving

pytestmark = pytest.mark.model

BYTES_PER_TOKEN = 2 * 2 * 2 * 16 * 4
"""Keys and values, layers, heads, width, float32."""
NATIVE, LIMIT = 8192, 4000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Path:
    """A model with room for long prompts."""
    folder = shutil.copytree(tiny_model("llama"), tmp_path_factory.mktemp("long") / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": NATIVE}))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """One that keeps 1 MB of prompts."""
    with serving("--model-path", folder, "--context-length", LIMIT, "--prefix-cache-mb", 1) as server:
        yield server


def complete(server: Server, tokens: int, **more: Any) -> Any:
    return server.post("/v1/completions", {"prompt": [5] * tokens, "max_tokens": 1, **more})


def test_models_tell_the_context_that_one_request_may_have(server: Server) -> None:
    model = server.get("/v1/models/model").json()
    fields = ("context_length", "max_model_len", "context_window", "max_input_tokens")
    assert [model[field] for field in fields] == [LIMIT] * 4
    assert model["native_context_length"] == NATIVE
    assert server.post("/tokenize", {"prompt": "hi"}).json()["max_model_len"] == LIMIT


def test_prompt_beyond_it_is_refused_with_both_numbers(server: Server) -> None:
    answer = complete(server, LIMIT + 1)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "prompt")
    assert {str(LIMIT), str(LIMIT + 1)} <= set(error["message"].replace(",", "").replace(".", " ").split())


def test_prompt_beyond_the_models_own_context_alarms_nobody(smollm2_server: Server) -> None:
    """transformers would say that it results in indexing errors."""
    answer = smollm2_server.complete("a " * 9000)
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert "indexing errors" not in smollm2_server.output()


@pytest.mark.parametrize("stream", [False, True])
def test_prompt_that_cannot_be_kept_is_told_in_the_head(server: Server, stream: bool) -> None:
    longer, shorter = 3000, (1 << 20) // BYTES_PER_TOKEN
    told = complete(server, longer, stream=stream).headers["x-prompt-cache"]
    assert told == "not kept whole (needs 1.5 MiB of 1.0 MiB)"
    assert "x-prompt-cache" not in complete(server, shorter, stream=stream).headers
    assert "x-prompt-cache" not in complete(server, longer, stream=stream, use_cache=False).headers
    server.wait_until(lambda: server.output().count("Raise --prefix-cache-mb") == 1)


def test_each_model_of_a_configuration_may_have_a_context_of_its_own(
    launch: Callable[..., Server], folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "models.toml"
    config.write_text(f"[models.short]\npath = '{folder}'\ncontext_length = 100\n[models.long]\npath = '{folder}'\n")
    server = launch("--config", config, "--context-length", 300, "--max-models", 1)
    models = {model["id"]: model for model in server.get("/v1/models").json()["data"]}
    assert models["short"]["max_model_len"] == 100
    assert models["long"]["max_model_len"] in (300, None), "it is not loaded: its files say it once they are known"
    first = complete(server, 200, model="long").json()
    assert first["system_fingerprint"].startswith("fp_"), "though its model was loaded for this request"
    assert complete(server, 200, model="short").json()["error"]["code"] == "context_length_exceeded"
