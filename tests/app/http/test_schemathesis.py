"""What a machine makes of the OpenAPI document: requests by the thousand, valid and not, to every endpoint."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running.hub import LocalHub, Repo, running
from support.running.servers import SCRIPTED, Server, serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "negative_data_rejection",
)
EXCLUDED = ("post_v1_system_shutdown", "post_v1_system_restart", "delete_v1_models_name", "get_v1_live")
"""Operations that end what the others are about, or have no end themselves."""

HEADER = b'{"w":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)
FILES = {"config.json": b'{"model_type": "whisper"}', "model.safetensors": WEIGHTS}
"""Of a kind that is not served: one that is downloaded must not fail to load, which is an error of the server's."""

LIMITS = ("--seed", "20", "--max-examples", "10", "--max-time", "30", "--phases", "coverage,fuzzing")


@pytest.fixture
def scripted_server(tmp_path: Path) -> Iterator[Server]:
    """One that asks a hub on this machine: one that can't be reached is a server's error, if an honest one."""
    with (
        running(LocalHub(Repo("a/b", FILES))) as hub,
        serving(
            *SCRIPTED, "--max-concurrency", 4, env={"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)}
        ) as server,
    ):
        yield server


def test_no_request_has_an_answer_that_is_not_documented(scripted_server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{scripted_server.root}/openapi.json"]
    excluded = [argument for operation in EXCLUDED for argument in ("--exclude-operation-id", operation)]
    done = subprocess.run(
        [*command, *LIMITS, "--checks", ",".join(CHECKS), "--continue-on-failure", "--warnings", "off", *excluded],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    operations = sum(len(item) for item in scripted_server.get("/openapi.json").json()["paths"].values())
    # All but the request for the document itself.
    assert f"Tested: {operations - 1 - len(EXCLUDED)}\n" in done.stdout
    assert scripted_server.stats()["served"] > 5, "it got through to the model"
    scripted_server.wait_stats(active_requests=0, rows_used=0)
    assert scripted_server.chat("still there").status_code == 200
    assert "Traceback" not in scripted_server.output()
