"""Models on this machine are found, named, and read again only when their files have changed."""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from support.running.servers import Server
from support.tiny.folders import LLAMA, make, make_gguf, make_snapshot

from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.catalog.model_folder import read_model
from mlx_server.app.registry.registry import FILE, Registry
from mlx_server.app.registry.rows import ModelRow, on_disk
from mlx_server.app.registry.scanning import Scan, Scanner, free_name, look

T = TypeVar("T")
KINDS: dict[Kind, dict[str, Any]] = {
    Kind.LANGUAGE: {**LLAMA, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32},
    Kind.VISION: {"model_type": "qwen3_vl", "vision_config": {}},
    Kind.EMBEDDING: {"model_type": "bert"},
    Kind.RERANKER: {"model_type": "bert", "architectures": ["BertForSequenceClassification"]},
    Kind.AUDIO: {"model_type": "whisper"},
}


@pytest.fixture
def registry() -> Iterator[Registry]:
    opened = Registry.open(None)
    yield opened
    opened.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def scan(registry: Registry, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Scan]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    models.mkdir()
    return lambda: run(Scanner(registry, [models]).scan())


def run(work: Awaitable[T]) -> T:
    async def awaited() -> T:
        return await work

    return asyncio.run(awaited())


def rows(registry: Registry) -> dict[str, ModelRow]:
    return {row.name: row for row in run(registry.models())}


def test_models_of_all_kinds_are_found_and_classified(
    registry: Registry, models: Path, scan: Callable[[], Scan]
) -> None:
    for kind, config in KINDS.items():
        make(models / "made" / kind.value, config)
    (models / "made" / "image" / "unet").mkdir(parents=True)
    (models / "made" / "image" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    make_gguf(models / "small.gguf")
    scan()
    found = {f"made/{kind.value}": kind for kind in Kind} | {"small": Kind.LANGUAGE}
    assert {name: row.type for name, row in rows(registry).items()} == found


def test_row_tells_what_the_files_say(registry: Registry, models: Path, scan: Callable[[], Scan]) -> None:
    folder = make(models / "m")
    scan()
    row = rows(registry)["m"]
    assert (row.path, row.hub_id, row.status, row.use_count) == (str(folder), None, "unloaded", 0)
    assert on_disk(row) == read_model(folder)
    assert on_disk(ModelRow(name="m")) is None


def test_unchanged_model_is_not_read_again(registry: Registry, models: Path, scan: Callable[[], Scan]) -> None:
    config = make(models / "m") / "config.json"
    scan()
    before = rows(registry)["m"]
    looks = config.stat()
    config.write_text(config.read_text().replace("llama", "opera"))
    os.utime(config, ns=(looks.st_atime_ns, looks.st_mtime_ns))
    again = scan()
    assert (again.unchanged, again.found, again.gone) == (1, [], [])
    assert rows(registry)["m"] == before
    os.utime(config)
    assert [row.name for row in scan().found] == ["m"]
    after = rows(registry)["m"]
    assert (after.id, after.created_at, after.architecture) == (before.id, before.created_at, "opera")


def test_what_the_registry_knows_of_a_model_outlasts_a_new_look(
    registry: Registry, models: Path, scan: Callable[[], Scan]
) -> None:
    folder = make(models / "m")
    scan()
    mine = msgspec.structs.replace(rows(registry)["m"], aliases=("mine",), memory_bytes=7, metadata={"note": "mine"})
    run(registry.save(mine))
    run(registry.set_status("m", "failed", "no memory"))
    make(folder, KINDS[Kind.EMBEDDING])
    scan()
    row = rows(registry)["m"]
    assert (row.type, row.aliases, row.memory_bytes, row.metadata["note"]) == (Kind.EMBEDDING, ("mine",), 7, "mine")
    assert (row.status, row.error_message) == ("failed", "no memory")


def test_model_whose_files_are_gone_is_forgotten(registry: Registry, models: Path, scan: Callable[[], Scan]) -> None:
    make_gguf(models / "small.gguf")
    make(models / "m")
    scan()
    run(registry.save(ModelRow(name="later", path=str(models / "later"))))
    (models / "small.gguf").unlink()
    assert [row.name for row in scan().gone] == ["small"]
    assert sorted(rows(registry)) == ["later", "m"]


def test_models_stay_known_while_their_whole_folder_is_away(
    registry: Registry, models: Path, scan: Callable[[], Scan]
) -> None:
    make(models / "m")
    scan()
    models.rename(models.with_name("elsewhere"))
    assert scan().gone == []
    assert list(rows(registry)) == ["m"]


def test_snapshot_of_the_hub_has_its_id_and_follows_it(
    registry: Registry, tmp_path: Path, scan: Callable[[], Scan]
) -> None:
    first = make_snapshot(tmp_path / "hub", "owner/model", "abc")
    scan()
    row = rows(registry)["owner/model"]
    assert (row.path, row.hub_id, row.version) == (str(first), "owner/model", "abc")
    second = make_snapshot(tmp_path / "hub", "owner/model", "def")
    scan()
    after = rows(registry)["owner/model"]
    assert (after.id, after.path, after.version) == (row.id, str(second), "def")


@pytest.mark.parametrize("linked", [False, True])
def test_model_that_is_gone_from_a_cache_that_is_a_link_is_forgotten(
    registry: Registry, tmp_path: Path, scan: Callable[[], Scan], linked: bool
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "hub").symlink_to(tmp_path / "disk")
    gone = tmp_path / ("hub" if linked else "disk") / "models--a--b" / "snapshots" / "one"
    run(registry.save(ModelRow(name="mine", path=str(gone), stamp="seen")))
    assert [row.name for row in scan().gone] == ["mine"]


def test_model_that_the_system_lets_nobody_see_is_not_gone(models: Path) -> None:
    models.mkdir()
    assert look([ModelRow(name="hidden", path=str(models / ("x" * 300)), stamp="seen")], [models], hub=False).gone == []


def test_model_that_was_installed_under_a_name_keeps_it(
    registry: Registry, tmp_path: Path, scan: Callable[[], Scan]
) -> None:
    run(registry.save(ModelRow(name="mine", hub_id="owner/model")))
    folder = make_snapshot(tmp_path / "hub", "owner/model", "abc")
    scan()
    assert {name: row.path for name, row in rows(registry).items()} == {"mine": str(folder)}
    assert scan().unchanged == 1


def test_name_that_became_anothers_during_the_scan_is_left_to_it(registry: Registry) -> None:
    run(registry.save(ModelRow(name="m", path="/one")))
    run(registry.save_found([ModelRow(name="m", path="/two", architecture="llama")]))
    assert (rows(registry)["m"].path, rows(registry)["m"].architecture) == ("/one", None)


def test_what_is_outside_of_the_folder_is_named_and_not_found(
    registry: Registry, models: Path, tmp_path: Path, scan: Callable[[], Scan]
) -> None:
    outside = make(tmp_path / "outside")
    (models / "link").symlink_to(outside, target_is_directory=True)
    make_gguf(tmp_path / "other.gguf")
    (models / "other.gguf").symlink_to(tmp_path / "other.gguf")
    make(models / "m")
    problems = scan().unreadable
    assert [problem.partition(" leads out of")[0] for problem in problems] == [
        str(models / "link"),
        str(models / "other.gguf"),
    ]
    assert list(rows(registry)) == ["m"]
    assert sorted(row.name for row in look([], [models], hub=False, links=True).found) == ["link", "m", "other"]


def test_folder_that_is_a_model_itself_is_one(models: Path) -> None:
    make(models)
    assert [row.name for row in look([], [models], hub=False).found] == ["models"]


def test_broken_models_are_named_and_the_others_found(models: Path, scan: Callable[[], Scan]) -> None:
    make(models / "m")
    (make(models / "broken") / "model.safetensors").write_bytes(b"")
    (models / "broken.gguf").write_bytes(b"GGUF")
    found = scan()
    assert [row.name for row in found.found] == ["m"]
    assert [problem.split(" is not a model")[0] for problem in found.unreadable] == [
        str(models / "broken"),
        str(models / "broken.gguf"),
    ]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("a/b", "a/b"),
        ("my model (v2)", "my-model-v2"),
        ("größe", "gr-e"),
        ("..", "model"),
        ("(", "model"),
        ("m", "m-3"),
    ],
)
def test_names_are_those_of_the_folders_as_far_as_a_model_may_be_called_so(wanted: str, name: str) -> None:
    assert free_name(wanted, {"m", "m-2"}) == name
    assert len(free_name("x" * 500, set())) == 120


def test_scans_at_the_same_time_are_one(registry: Registry, models: Path, scan: Callable[[], Scan]) -> None:
    make(models / "m")

    async def twice() -> list[Scan]:
        scanner = Scanner(registry, [models])
        return await asyncio.gather(scanner.scan(), scanner.scan())

    one, other = asyncio.run(twice())
    assert one is other


def test_scan_that_is_to_end_enters_what_it_has_found(models: Path) -> None:
    make(models / "a")
    make(models / "b")
    asked = iter([False, True])
    assert [row.name for row in look([], [models], hub=False, stop=lambda: next(asked)).found] == ["a"]


def test_failure_is_logged(models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry.open(tmp_path / FILE)
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("DROP TABLE models")

    async def scan() -> None:
        scanner = Scanner(registry, [models], hub=False)
        scanner.start()
        await scanner.close()

    asyncio.run(scan())
    registry.close()
    assert "models could not be looked for: no such table" in caplog.text


def test_server_that_serves_many_knows_what_it_has_found(launch: Callable[..., Server], models: Path) -> None:
    make(models / "org" / "m")
    server = launch("--models-dir", models, "--data-dir", models / "data", wait=False)
    path = models / "data" / FILE

    def found() -> list[str]:
        if not path.exists():
            return []
        registry = Registry.open(path)
        try:
            return list(rows(registry))
        finally:
            registry.close()

    server.wait_until(lambda: "org/m" in found())
    assert server.stop() == 0
