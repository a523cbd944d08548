"""The process that downloads ends with the one that started it, however that ends."""

import subprocess
import sys
from pathlib import Path

import psutil
from support.running.hub import LocalHub, Repo, running
from support.running.servers import wait_for

PARENT = """
import asyncio, sys
from pathlib import Path
from mlx_server.app.hub.downloads import Downloads
from mlx_server.workers.hub.access import HubAccess

async def main():
    downloads = Downloads(HubAccess(sys.argv[1], None, Path(sys.argv[2])))
    started = await downloads.start("mlx-community/tiny")
    downloads.watch(lambda download: print(download.row.done_bytes, flush=True))
    await downloads.wait(started.id)

asyncio.run(main())
"""


def test_a_killed_server_takes_its_downloads_with_it(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": bytes(1 << 20)}
    with running(LocalHub(Repo("mlx-community/tiny", files, pause_s=5.0))) as hub:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, hub.url, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        while parent.stdout.readline().strip() in ("0", ""):
            assert parent.poll() is None
        [child] = psutil.Process(parent.pid).children()
        parent.kill()
        parent.wait()
        parent.stdout.close()
        wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
