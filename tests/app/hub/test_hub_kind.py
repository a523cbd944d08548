"""What a repository's model is for is known before its weights are downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running.hub import LocalHub, Repo, running

from mlx_server.app.catalog.hub_kind import kind_on_hub
from mlx_server.app.catalog.kinds import Kind
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import HubDenied, HubNotFound, HubOffline, NothingToServe

WEIGHTS = b"w" * 2000


def repo(name: str, config: dict[str, Any] | bytes, **more: Any) -> Repo:
    content = config if isinstance(config, bytes) else json.dumps(config).encode()
    return Repo(f"org/{name}", {"config.json": content, "model.safetensors": WEIGHTS}, **more)


def pooled() -> Repo:
    model = repo("pooled", {"model_type": "qwen3"})
    model.files["modules.json"] = b"[]"
    return model


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    repos = (
        repo("lm", {"model_type": "llama"}),
        repo("vlm", {"model_type": "qwen3_vl", "vision_config": {}}),
        repo("bert", {"model_type": "bert"}),
        repo("rerank", {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}),
        repo("broken", b"{"),
        repo("gated", {"model_type": "llama"}, gated=True),
        Repo("org/picture", {"model_index.json": b"{}"}),
        Repo("org/empty", {"README.md": b"hi"}),
        pooled(),
    )
    with running(LocalHub(*repos)) as local:
        yield local


def access(hub: LocalHub, folder: Path) -> HubAccess:
    return HubAccess(hub.url, None, folder)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lm", Kind.LANGUAGE),
        ("vlm", Kind.VISION),
        ("bert", Kind.EMBEDDING),
        ("pooled", Kind.EMBEDDING),
        ("rerank", Kind.RERANKER),
        ("picture", Kind.IMAGE),
    ],
)
def test_kind_is_as_the_files_say(hub: LocalHub, tmp_path: Path, name: str, kind: Kind) -> None:
    assert kind_on_hub(f"org/{name}", access(hub, tmp_path)) is kind
    assert hub.asked_for("model.safetensors") == [], "no weights were asked for"


@pytest.mark.parametrize(
    ("name", "error"),
    [("none", HubNotFound), ("gated", HubDenied), ("empty", NothingToServe), ("broken", NothingToServe)],
)
def test_what_has_no_kind_is_refused(hub: LocalHub, tmp_path: Path, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        kind_on_hub(f"org/{name}", access(hub, tmp_path))


def test_hub_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(HubOffline):
        kind_on_hub("org/lm", HubAccess("http://127.0.0.1:9", None, tmp_path))
