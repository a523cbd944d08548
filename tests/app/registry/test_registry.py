"""What the registry keeps: models, settings and downloads, over restarts, and for several servers at once."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from mlx_server.app.catalog.kinds import Kind
from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet.events import ModelEvent
from mlx_server.app.fleet.registry_sync import RegistrySync
from mlx_server.app.registry.app_settings import SettingNotFound
from mlx_server.app.registry.registry import Registry
from mlx_server.app.registry.rows import DownloadRow, ModelRow
from mlx_server.schemas.internal.errors import InvalidRequest

T = TypeVar("T")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[Callable[[], Registry]]:
    registries: list[Registry] = []

    def make() -> Registry:
        registries.append(Registry.open(tmp_path / "registry.sqlite3", Clock()))
        return registries[-1]

    yield make
    for registry in registries:
        registry.close()


@pytest.fixture
def registry(open_registry: Callable[[], Registry]) -> Registry:
    return open_registry()


def run(work: Awaitable[T]) -> T:
    async def awaited() -> T:
        return await work

    return asyncio.run(awaited())


def names(registry: Registry, *page: int) -> list[str]:
    return [row.name for row in run(registry.models(*page))]


FULL = ModelRow(
    name="owner/model@v1.0:latest+x",
    path="/models/ein Modell mit ü",
    hub_id="owner/model",
    type=Kind.VISION,
    version="abc123",
    quantisation="4-bit",
    weight_bytes=1 << 40,
    memory_bytes=(1 << 40) + 1,
    parameters=7_000_000_000,
    context_length=131072,
    architecture="qwen3_vl",
    status="failed",
    error_message='it\'s "broken": Ü 🙂\n',
    metadata={"tags": ["a", {"b": None}], "text": "Ü 🙂", "number": 1.5},
    aliases=("other", "gpt-4"),
    stamp="ab]]",
)


@pytest.mark.parametrize("row", [FULL, ModelRow(name="m")], ids=["full", "bare"])
def test_model_comes_back_as_it_was_saved(open_registry: Callable[[], Registry], row: ModelRow) -> None:
    saved = run(open_registry().save(row))
    assert saved.id > 0
    assert saved.created_at == saved.updated_at == NOON + timedelta(seconds=1)
    again = open_registry()
    assert run(again.model(row.name)) == saved
    assert run(again.models()) == [saved]
    own = {"id": 0, "created_at": row.created_at, "updated_at": row.updated_at}
    assert msgspec.structs.replace(saved, **own) == row


def test_saving_again_changes_a_model_and_leaves_what_is_the_registrys(registry: Registry) -> None:
    first = run(registry.save(ModelRow(name="m", quantisation="4-bit")))
    run(registry.record_uses({"m": (3, NOON)}))
    second = run(registry.save(msgspec.structs.replace(first, quantisation="8-bit", use_count=99, created_at=NOON)))
    assert (second.id, second.created_at) == (first.id, first.created_at)
    assert (second.use_count, second.last_used_at) == (3, NOON)
    assert second.quantisation == "8-bit"
    assert second.updated_at > first.updated_at


def test_uses_add_up_and_the_last_one_is_the_latest(registry: Registry) -> None:
    run(registry.save_all([ModelRow(name="a"), ModelRow(name="b")]))
    run(registry.record_uses({"a": (2, NOON), "unknown": (1, NOON)}))
    run(registry.record_uses({"a": (3, NOON - timedelta(hours=1)), "b": (1, NOON)}))
    assert [(row.use_count, row.last_used_at) for row in run(registry.models())] == [(5, NOON), (1, NOON)]


def test_models_are_listed_in_pages(registry: Registry) -> None:
    run(registry.save_all([ModelRow(name=name) for name in "cabde"]))
    assert names(registry) == list("cabde")
    assert names(registry, 2) == ["c", "a"]
    assert names(registry, 2, 4) == ["e"]
    assert names(registry, 2, 9) == []


def test_removed_model_is_gone_and_its_number_is_not_given_again(registry: Registry) -> None:
    first = run(registry.save(ModelRow(name="m")))
    assert run(registry.remove("m"))
    assert not run(registry.remove("m"))
    assert run(registry.model("m")) is None
    assert run(registry.save(ModelRow(name="m"))).id > first.id


def test_status_is_kept_with_its_reason(registry: Registry) -> None:
    run(registry.save(ModelRow(name="m")))
    assert run(registry.set_status("m", "failed", "no memory"))
    row = run(registry.model("m"))
    assert row is not None
    assert (row.status, row.error_message) == ("failed", "no memory")
    assert run(registry.set_status("m", "loaded"))
    assert getattr(run(registry.model("m")), "error_message", "?") is None
    assert not run(registry.set_status("other", "loaded"))


@pytest.mark.parametrize(
    ("wrong", "param", "allowed"),
    [
        ({"name": ""}, "name", "1 to 128"),
        ({"name": "/m"}, "name", "no / at the start"),
        ({"name": "a/../m"}, "name", "without"),
        ({"name": "m m"}, "name", "letters, digits"),
        ({"name": "m" * 129}, "name", "1 to 128"),
        ({"name": "m\n"}, "name", "letters, digits"),
        ({"aliases": ("fine", "not fine")}, "aliases", "letters, digits"),
        ({"path": "models/m"}, "path", "absolute path"),
        ({"path": ""}, "path", "absolute path"),
        ({"path": "/models/../etc"}, "path", "without"),
        ({"path": "/m\0"}, "path", "absolute path"),
        ({"path": "/" + "m" * 5000}, "path", "4096"),
        ({"hub_id": "owner"}, "hub_id", "OWNER/NAME"),
        ({"hub_id": "owner/name/more"}, "hub_id", "OWNER/NAME"),
    ],
)
def test_what_no_model_can_be_is_refused(registry: Registry, wrong: dict[str, Any], param: str, allowed: str) -> None:
    with pytest.raises(InvalidRequest, match=allowed) as raised:
        run(registry.save_all([ModelRow(name="good"), ModelRow(**{"name": "m", **wrong})]))
    assert raised.value.param == param
    assert names(registry) == []


def test_model_is_found_by_its_aliases_and_a_name_comes_first(registry: Registry) -> None:
    run(registry.save(ModelRow(name="m", aliases=("one", "two"))))
    assert getattr(run(registry.model("two")), "name", None) == "m"
    assert run(registry.model("three")) is None
    run(registry.save(ModelRow(name="m", aliases=("three",))))
    assert run(registry.model("two")) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ModelRow(name="one"), r"`name`: 'one' is already a name of the model 'm'"),
        (ModelRow(name="n", aliases=("m",)), r"`aliases`: 'm' is already a name of the model 'm'"),
        (ModelRow(name="n", aliases=("free", "one")), r"`aliases`: 'one' is already a name of the model 'm'"),
    ],
)
def test_name_of_another_model_is_refused(registry: Registry, row: ModelRow, message: str) -> None:
    run(registry.save(ModelRow(name="m", aliases=("one",))))
    with pytest.raises(InvalidRequest, match=message):
        run(registry.save(row))
    assert names(registry) == ["m"]


def test_registry_of_the_first_version_is_read_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.executescript((Path(__file__).parent / "version_1.sql").read_text(encoding="utf-8"))
    registry = Registry.open(path, Clock())
    model, other = run(registry.models())
    assert (model.name, model.type, model.error_message, model.metadata) == (
        "owner/model",
        Kind.VISION,
        "it's broken",
        {"a": [1]},
    )
    assert (other.name, other.use_count, other.last_used_at, other.aliases) == ("other", 7, NOON, ())
    assert run(registry.settings()) == {"server_port": 9000}
    assert [row.auto_load for row in run(registry.downloads())] == [True]
    assert run(registry.save(ModelRow(name="new", aliases=("newer",)))).id == 3
    registry.close()


def test_settings_that_were_set_are_kept(open_registry: Callable[[], Registry]) -> None:
    registry = open_registry()
    assert run(registry.settings()) == {}
    for key, value in (("server_port", 9000), ("enable_system_tray", False), ("huggingface_cache_dir", "/ü")):
        assert run(registry.set_setting(key, value)) == value
    run(registry.set_setting("server_port", 9001))
    kept = {"enable_system_tray": False, "huggingface_cache_dir": "/ü", "server_port": 9001}
    assert run(open_registry().settings()) == kept


def test_what_the_server_keeps_for_itself_is_no_setting(open_registry: Callable[[], Registry]) -> None:
    first, second = open_registry(), open_registry()
    assert run(first.read_value("mode")) is None
    run(first.write_value("mode", "efficiency"))
    run(first.write_value("mode", "balanced"))
    assert run(second.read_value("mode")) == "balanced"
    assert run(second.settings()) == {}


def test_setting_that_can_not_be_is_not_kept(registry: Registry) -> None:
    with pytest.raises(InvalidRequest, match="from 1 to 65535"):
        run(registry.set_setting("server_port", 0))
    with pytest.raises(SettingNotFound, match="'colour' not found"):
        run(registry.set_setting("colour", "red"))
    assert run(registry.settings()) == {}


def test_downloads_are_kept(open_registry: Callable[[], Registry]) -> None:
    registry = open_registry()
    row = DownloadRow(
        id="download-1",
        hub_id="owner/model",
        name="model",
        status="downloading",
        total_bytes=1 << 40,
        done_bytes=5,
        error=None,
        created_at=NOON,
        updated_at=NOON,
        auto_load=True,
    )
    later = msgspec.structs.replace(row, id="download-0", created_at=NOON + timedelta(seconds=1), auto_load=False)
    run(registry.save_download(later))
    run(registry.save_download(row))
    assert run(open_registry().downloads()) == [row, later]
    failed = msgspec.structs.replace(row, status="failed", error="no disk", done_bytes=7)
    run(registry.save_download(failed))
    assert run(registry.downloads()) == [failed, later]


def test_two_servers_may_share_a_registry(open_registry: Callable[[], Registry]) -> None:
    one, other = open_registry(), open_registry()

    async def both() -> None:
        await one.save(ModelRow(name="shared"))
        uses = [registry.record_uses({"shared": (1, NOON)}) for registry in (one, other) for _ in range(50)]
        rows = [registry.save(ModelRow(name=f"m{n}")) for registry in (one, other) for n in range(50)]
        await asyncio.gather(*uses, *rows)

    run(both())
    assert len(names(one)) == 51
    shared = run(other.model("shared"))
    assert shared is not None
    assert shared.use_count == 100


def test_registry_in_memory_needs_no_file() -> None:
    registry = Registry.open(None)
    assert run(registry.save(ModelRow(name="m"))).id == 1
    registry.close()


def test_what_could_not_be_written_is_written_the_next_time(registry: Registry, tmp_path: Path) -> None:
    run(registry.save(ModelRow(name="a", path="/models/a")))
    sync, settings = RegistrySync(registry, ModelSettings("scripted")), ModelSettings("/models/a", name="a")
    with closing(sqlite3.connect(tmp_path / "registry.sqlite3")) as other:
        for table, renamed in (("models", "gone"), ("gone", "models")):
            other.execute(f"ALTER TABLE {table} RENAME TO {renamed}")
            other.commit()
            sync.used("a")
            if renamed == "gone":
                sync.moved(settings, ModelEvent("a", ModelState.UNLOADED, ModelState.LOADED))
            run(sync.refresh())
    [row] = run(registry.models())
    assert (row.status, row.use_count) == ("loaded", 2)
    run(sync.refresh())
    assert run(registry.models())[0].use_count == 2
