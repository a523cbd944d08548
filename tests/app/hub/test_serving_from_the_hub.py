"""A worker fetches its model in the same way, and tells how far it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.running.hub import TOKEN, LocalHub, repo_of, running
from support.running.servers import Server

ID = "mlx-community/tiny-llama"


def environment(hub: LocalHub, cache: Path, token: str = "") -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_TOKEN": token}


@pytest.mark.model
def test_a_model_is_served_from_the_hub_and_then_without_it(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with running(LocalHub(repo_of(tiny_model("llama"), ID))) as hub:
        env = environment(hub, tmp_path)
        server = launch("--model-path", ID, env=env)
        assert server.complete("hi", max_tokens=2).status_code == 200
        assert f"{ID}: downloading {ID} " in server.output()
        server.stop()
    again = launch("--model-path", ID, env=env)
    assert again.complete("hi", max_tokens=2).status_code == 200


@pytest.mark.model
@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_file_that_is_missing_of_a_hubs_model_is_downloaded_and_no_fault(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    with running(LocalHub(repo_of(tiny_model("llama"), ID))) as hub:
        env = environment(hub, tmp_path)
        launch("--model-path", ID, env=env).stop()
        [file] = tmp_path.glob(f"models--*/snapshots/*/{name}")
        file.resolve().unlink()
        server = launch("--model-path", ID, env=env)
        assert server.complete("hi", max_tokens=2).status_code == 200


def test_a_gated_model_ends_the_command_with_one_line(launch: Callable[..., Server], tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": bytes(2000)}
    with running(LocalHub(repo_of(tmp_path, ID, gated=True))) as hub:
        hub.repos[ID].files = files
        server = launch("--model-path", ID, env=environment(hub, tmp_path), wait=False)
        assert server.process.wait(60) == 3
        assert "set HF_TOKEN" in server.output().splitlines()[-1]
        assert TOKEN not in server.output()
