"""A model that was to be loaded is, as soon as it is downloaded."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running.hub import LocalHub, repo_of, running
from support.running.servers import Server, serving

from mlx_server.app.catalog.errors import LoadFailed
from mlx_server.app.hub.auto_load import AutoLoad
from mlx_server.app.hub.download import Download, DownloadStatus
from mlx_server.app.registry.registry import now_utc
from mlx_server.app.registry.rows import DownloadRow

ID = "mlx-community/tiny-llama"
WITHOUT_MODELS = """
import os
from pathlib import Path
import uvicorn
from mlx_server.app.server.server import create_app
from mlx_server.app.config.settings import Settings
uvicorn.run(create_app(Settings(data_dir=Path(os.environ["MLX_SERVER_DATA_DIR"]))), port=0)
"""


@pytest.mark.model
def test_a_downloaded_model_is_loaded_without_being_asked(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    with running(LocalHub(repo_of(tiny_model("llama"), ID))) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)}
        with serving(command=("-c", WITHOUT_MODELS), env=env, until=Server.wait_listening) as server:
            answer = server.post(
                "/api/models/download",
                {"model_id": ID, "name": "tiny", "auto_load": True},
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code == 200, answer.text
            server.wait_until(
                lambda: server.get("/v1/queue/stats").json()["models"].get("tiny", {}).get("rows_granted")
            )
            assert server.complete("hi", model="tiny", max_tokens=1).status_code == 200


def download(status: DownloadStatus, *, auto_load: bool) -> Download:
    time = now_utc()
    return Download(
        DownloadRow(
            id="download-1",
            hub_id=ID,
            name="tiny",
            status=status.value,
            total_bytes=1,
            done_bytes=1,
            error=None,
            created_at=time,
            updated_at=time,
            auto_load=auto_load,
        )
    )


def test_only_what_is_completed_and_was_to_be_loaded_is_loaded(caplog: pytest.LogCaptureFixture) -> None:
    loaded: list[str] = []

    async def load(name: str) -> None:
        loaded.append(name)
        raise LoadFailed("no room")

    async def scenario() -> None:
        auto_load = AutoLoad(load)
        auto_load.changed(download(DownloadStatus.COMPLETED, auto_load=False))
        auto_load.changed(download(DownloadStatus.FAILED, auto_load=True))
        auto_load.changed(download(DownloadStatus.COMPLETED, auto_load=True))
        await asyncio.sleep(0)
        await auto_load.close()

    asyncio.run(scenario())
    assert loaded == ["tiny"]
    assert "tiny was downloaded and can't be loaded: no room" in caplog.text
