"""The fleet itself, with real worker processes: loads, turns, deletions, replacements, and what the registry keeps."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import psutil
import pytest
from support.running.fleets import LONG_S, end_of, scripted, settings_of, started, submit, until, worker_pids
from support.tiny.gguf_files import write_gguf

from mlx_server.app.catalog.errors import LoadFailed, ModelNotFound
from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet.events import ModelEvent
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.fleet.memory_estimate import SCRIPTED_BYTES
from mlx_server.app.registry.registry import Registry
from mlx_server.app.registry.rows import ModelRow
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Failed, FailureKind, Finished
from mlx_server.workers.folders.conversions import Source, record

pytestmark = pytest.mark.anyio
SLOW = json.dumps({"tokens": 20, "interval_s": 0.05})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def states(fleet: Fleet) -> dict[str, ModelState]:
    return {one.name: one.state for one in fleet.deployments}


async def test_model_is_loaded_once_and_unloaded_with_its_process() -> None:
    settings = settings_of(scripted("a"), scripted("b", "scripted:load_s=0.1"), max_models=1)
    events: list[ModelEvent] = []
    async with started(Fleet(settings)) as fleet:
        unsubscribe = fleet.watch(events.append)
        one, other = await asyncio.gather(fleet.load("b"), fleet.load("b"))
        assert one is other is fleet.find("b")
        assert states(fleet) == {"a": ModelState.UNLOADED, "b": ModelState.LOADED}
        [pid] = one.pids
        assert [event.state for event in events if event.model == "b" and event.state is not event.before] == [
            ModelState.LOADING,
            ModelState.LOADED,
        ]
        unsubscribe()
        assert await fleet.unload("b") is one
        assert one.state is ModelState.UNLOADED
        assert not psutil.pid_exists(pid)
        assert await fleet.unload("b") is one, "once more changes nothing"
        for refused in (fleet.load("c"), fleet.unload("c"), fleet.delete("c")):
            with pytest.raises(ModelNotFound):
                await refused
        with pytest.raises(ModelNotFound):
            fleet.set_priority("c", 1)


async def test_load_anew_waits_for_what_runs() -> None:
    async with started(Fleet(settings_of(scripted("a")))) as fleet:
        model = await fleet.load("a")
        [before] = model.pids
        assert await fleet.load("a") is model
        assert model.pids == [before]
        ticket = submit(model, SLOW)
        await until(lambda: model.queue.running)
        await fleet.load("a", force_reload=True)
        assert isinstance(await end_of(ticket), Finished)
        assert model.pids != [before]


async def test_load_that_fails_says_why() -> None:
    async with started(Fleet(settings_of(scripted("good"), scripted("bad", "scripted:fail")))) as fleet:
        with pytest.raises(LoadFailed, match="the script says"):
            await fleet.load("bad")
        assert states(fleet) == {"good": ModelState.LOADED, "bad": ModelState.FAILED}


async def test_request_that_chose_a_model_before_it_failed_is_told_so() -> None:
    async with started(Fleet(settings_of(scripted("good"), scripted("bad", "scripted:fail")))) as fleet:
        bad = fleet.find("bad")
        assert bad is not None
        assert bad.state is ModelState.FAILED
        async with asyncio.timeout(5):
            end = await end_of(submit(bad))
        assert isinstance(end, Failed)
        assert end.kind is FailureKind.UNAVAILABLE
        assert "can't be served: " in end.message
        assert "the script says" in end.message


@pytest.mark.parametrize("how", ["pinned", "read-again"])
async def test_only_model_has_no_bound_whatever_becomes_of_its_settings(how: str) -> None:
    async with started(Fleet(settings_of(scripted("a")), reread=lambda: settings_of(scripted("a")))) as fleet:
        model = await fleet.pin("a", pinned=True) if how == "pinned" else await fleet.choose("a")
        if how == "read-again":
            assert (await fleet.reload()).unchanged == ("a",)
        fleet.ledger.limit_bytes = SCRIPTED_BYTES // 2
        await fleet.unload("a")
        await fleet.load("a")
        assert model.memory_bound is None


async def test_busy_model_goes_after_its_requests() -> None:
    async with started(Fleet(settings_of(scripted("a"), scripted("b"), max_models=1))) as fleet:
        busy = await fleet.load("a")
        tickets = [submit(busy, SLOW) for _ in range(3)]
        await until(lambda: busy.queue.running == 3)
        await fleet.load("b")
        assert states(fleet) == {"a": ModelState.UNLOADED, "b": ModelState.LOADED}
        assert [type(await end_of(ticket)) for ticket in tickets] == [Finished] * 3


async def test_unload_by_force_ends_what_runs() -> None:
    async with started(Fleet(settings_of(scripted("a")))) as fleet:
        model = await fleet.load("a")
        ticket = submit(model, SLOW)
        await until(lambda: model.queue.running)
        await fleet.unload("a", force=True)
        assert isinstance(await end_of(ticket), Failed)
        assert model.pids == []


async def test_waiting_loads_get_their_turns_by_priority() -> None:
    models = (scripted("a"), scripted("b"), scripted("c"))
    loaded: list[str] = []
    async with started(Fleet(settings_of(*models, max_models=1))) as fleet:
        busy = await fleet.load("a")
        submit(busy, SLOW)
        fleet.watch(lambda event: loaded.append(event.model) if event.state is ModelState.LOADED else None)
        loads = [asyncio.ensure_future(fleet.load("b")), asyncio.ensure_future(fleet.load("c", priority=5))]
        await until(lambda: len(fleet.waiting_loads) == 2)
        assert [waiting.name for waiting in fleet.waiting_loads] == ["c", "b"]
        fleet.set_priority("b", 10)
        assert [waiting.name for waiting in fleet.waiting_loads] == ["b", "c"]
        await asyncio.gather(*loads)
        assert list(dict.fromkeys(loaded)) == ["b", "c"]


async def test_request_of_a_replaced_model_goes_to_the_new_one() -> None:
    settings = settings_of(scripted("a"), scripted("b"))
    changed = replace(settings, models=(scripted("a", max_concurrency=3),))
    async with started(Fleet(settings, reread=lambda: changed)) as fleet:
        old, gone = await fleet.choose("a"), await fleet.choose("b")
        running = submit(old, SLOW)
        report = await fleet.reload()
        assert (report.changed, report.removed) == (("a",), ("b",))
        new = fleet.find("a")
        assert new is not None
        assert new is not old
        assert old.current is new
        assert new.current is new
        waiting = submit(old.current)
        assert isinstance(await end_of(running), Finished)
        assert isinstance(await end_of(waiting), Finished)
        assert (new.use_count, new.queue.statistics.served) == (1, 2)
        await until(lambda: gone.queue.closed)
        with pytest.raises(Exception, match="Model 'b' is not served any more"):
            submit(gone)


async def test_model_that_is_replaced_twice_while_it_runs_has_one_worker_and_one_grant() -> None:
    configurations = iter([settings_of(scripted("a", max_concurrency=rows)) for rows in (2, 3)])
    async with started(Fleet(settings_of(scripted("a")), reread=lambda: next(configurations))) as fleet:
        old = await fleet.choose("a")
        running = submit(old, SLOW)
        await until(lambda: old.queue.running)
        for _ in range(2):
            assert (await fleet.reload()).changed == ("a",)
        new = fleet.find("a")
        assert new is not None
        assert isinstance(await end_of(running), Finished)
        assert new.state is ModelState.UNLOADED, "the old one is still there"
        assert list(fleet.ledger.granted) == ["a"], "and holds its memory"
        await until(lambda: new.state is ModelState.LOADED)
        assert new.queue.concurrency == 3
        assert list(fleet.ledger.granted) == ["a"]
        assert worker_pids() == set(new.pids)
        assert not fleet.start_error.is_set()


async def test_model_that_waits_for_the_one_it_replaces_can_be_unloaded_and_loaded() -> None:
    changed = settings_of(scripted("a", max_concurrency=2))
    async with started(Fleet(settings_of(scripted("a")), reread=lambda: changed)) as fleet:
        old = await fleet.choose("a")
        running = submit(old, SLOW)
        await until(lambda: old.queue.running)
        await fleet.reload()
        new = await fleet.choose("a")
        await until(lambda: new.awaited)
        waiting = submit(new)
        for force in (False, True):
            await fleet.unload("a", force=force)
            assert list(fleet.ledger.granted) == ["a"], "the old one holds it"
        assert isinstance(await end_of(waiting), Failed)
        await fleet.load("a")
        assert isinstance(await end_of(running), Finished)
        assert worker_pids() == set(new.pids)
        assert list(fleet.ledger.granted) == ["a"]


async def test_model_that_is_taken_out_and_put_back_while_it_runs_is_loaded_once_that_has_gone() -> None:
    both, one = settings_of(scripted("a"), scripted("b")), settings_of(scripted("a"))
    configurations = iter([one, both])
    async with started(Fleet(both, reread=lambda: next(configurations))) as fleet:
        old = await fleet.choose("b")
        running = submit(old, SLOW)
        await until(lambda: old.queue.running)
        assert (await fleet.reload()).removed == ("b",)
        assert (await fleet.reload()).added == ("b",)
        new = fleet.find("b")
        assert new is not None
        assert isinstance(await end_of(running), Finished)
        assert new.state is ModelState.UNLOADED, "the old one is still there"
        await until(lambda: new.state is ModelState.LOADED)
        assert set(fleet.ledger.granted) == {"a", "b"}
        assert worker_pids() == {pid for one in fleet.deployments for pid in one.pids}


async def test_model_that_is_deleted_and_named_again_is_loaded_once_those_before_have_gone() -> None:
    changed = settings_of(scripted("a", max_concurrency=2))
    async with started(Fleet(settings_of(scripted("a")), reread=lambda: changed)) as fleet:
        old = await fleet.choose("a")
        running = submit(old, SLOW)
        await until(lambda: old.queue.running)
        await fleet.reload()
        await fleet.delete("a")
        new = await fleet.choose("a")
        assert list(fleet.ledger.granted) == ["a"], "the old one holds it"
        assert isinstance(await end_of(running), Finished)
        assert new.state is ModelState.UNLOADED, "the old one is still there"
        await until(lambda: new.state is ModelState.LOADED)
        assert list(fleet.ledger.granted) == ["a"]
        assert worker_pids() == set(new.pids)


async def test_configuration_that_is_read_again_during_the_start_may_be_without_a_model() -> None:
    a, b, c = scripted("a", "scripted:load_s=0.5"), scripted("b"), scripted("c")
    fleet = Fleet(settings_of(a, b, c), reread=lambda: settings_of(a, c))
    fleet.start()
    try:
        assert (await fleet.reload()).removed == ("b",)
        assert not fleet.ready
        async with asyncio.timeout(LONG_S):
            await until(lambda: fleet.ready)
        assert states(fleet) == {"a": ModelState.LOADED, "c": ModelState.LOADED}
        assert not any(one.awaited for one in fleet.deployments)
    finally:
        await fleet.stop()


async def test_models_that_stay_go_by_the_servers_settings_at_their_next_load() -> None:
    read = settings_of(scripted("a"), confine_workers=False, lease="off")
    fleet = Fleet(settings_of(scripted("a")), reread=lambda: read)
    model = await fleet.choose("a")
    assert model.loads_as().confined
    assert (await fleet.reload()).unchanged == ("a",)
    assert not model.loads_as().confined
    assert model.loads_as().lease == "off"
    await fleet.stop()


async def test_configurations_that_are_read_at_once_are_compared_one_after_the_other() -> None:
    changed = settings_of(scripted("a", max_concurrency=2))
    async with started(Fleet(settings_of(scripted("a")), reread=lambda: changed)) as fleet:
        reports = await asyncio.gather(fleet.reload(), fleet.reload())
        assert sorted(report.changed for report in reports) == [(), ("a",)]


@pytest.mark.model
async def test_registry_learns_in_the_background(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    file = tmp_path / "registry.sqlite3"
    registry = Registry.open(file)
    reader = sqlite3.connect(file)

    def version() -> Any:
        """Changes with whatever another connection writes."""
        return reader.execute("PRAGMA data_version").fetchone()

    model = ModelSettings(str(tiny_model("llama")), "lm", "tiny", cpu_dtype="native")
    async with started(Fleet(settings_of(model), registry=registry)) as fleet:
        await fleet.load("tiny")
        await until(lambda: reader.execute("SELECT status FROM models WHERE status = 'loaded'").fetchone())
        before = version()
        for _ in range(50):
            await fleet.choose("tiny")
        assert version() == before, "nothing is written while a request is on its way"
    row = await registry.model("tiny")
    assert row is not None
    assert (row.use_count, row.status) == (50, "unloaded")
    assert row.last_used_at is not None
    reader.close()
    registry.close()


@pytest.mark.model
async def test_delete_removes_files_only_where_models_are_kept(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    inside, outside = tmp_path / "models" / "own", tmp_path / "elsewhere"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        for file in tiny_model("llama").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    kept = tmp_path / "models" / "kept"
    kept.symlink_to(inside)
    twins = [ModelSettings(str(inside), "lm", name) for name in ("one", "other")]
    settings = settings_of(ModelSettings(str(outside), "lm", "outer"), *twins, models_dir=tmp_path / "models")
    fleet = Fleet(settings)
    assert await fleet.delete("outer") is False
    assert (outside / "config.json").is_file()
    assert await fleet.delete("one") is False, "they are the other's, too"
    assert await fleet.delete("other", remove_files=False) is False
    assert await fleet.delete("own", remove_files=False) is False
    assert inside.is_dir()
    assert await fleet.delete("own") is True
    assert not inside.exists()
    with pytest.raises(ModelNotFound):
        await fleet.delete("own")
    await fleet.stop()


async def test_delete_removes_what_was_made_of_a_file_with_the_last_model_of_it(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf")
    made = tmp_path / "cache" / "converted" / "m-1"
    record(made, Source(str(file), "float32", made.name))
    models = [ModelSettings(str(file), "lm", name) for name in ("one", "other")]
    fleet = Fleet(settings_of(*models, cache_dir=tmp_path / "cache"))
    assert await fleet.delete("one") is False
    assert made.is_dir()
    assert await fleet.delete("other") is False, "the file itself is the user's own"
    assert (file.is_file(), made.exists()) == (True, False)
    await fleet.stop()


@pytest.mark.model
async def test_delete_keeps_the_files_of_a_configured_models_draft_model(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    draft = tmp_path / "models" / "draft"
    copytree(tiny_model("llama"), draft)
    copytree(draft, tmp_path / "models" / "no-draft")
    model = ModelSettings(str(tiny_model("llama")), "lm", "own", draft_model=str(draft))
    fleet = Fleet(settings_of(model, scripted("b"), models_dir=tmp_path / "models"))
    assert await fleet.delete("draft") is False
    assert (draft / "config.json").is_file()
    assert await fleet.delete("no-draft") is True
    assert not (tmp_path / "models" / "no-draft").exists()
    await fleet.stop()


@pytest.mark.model
async def test_only_model_has_all_names_but_those_of_models_that_were_taken_in(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    registry = Registry.open(tmp_path / "registry.sqlite3")
    await registry.save(ModelRow(name="other", path=str(tiny_model("llama")), status="failed"))
    fleet = Fleet(settings_of(scripted("own")), registry=registry)

    async def reached() -> list[str]:
        return [(await fleet.choose(name)).name for name in (None, "own", "gpt-4o", "other")]

    assert await reached() == ["own"] * 4
    assert [entry.name for entry in await fleet.available()] == ["own"]
    fleet.add_installed("other")
    assert await reached() == ["own", "own", "own", "other"]
    assert [entry.name for entry in await fleet.available()] == ["own", "other"]
    await fleet.delete("other", remove_files=False)
    assert await reached() == ["own"] * 4
    await fleet.stop()
    registry.close()


async def test_path_in_the_place_of_a_name_is_told_where_paths_may_be_named() -> None:
    fleet = Fleet(settings_of(scripted("a"), scripted("b")))
    with pytest.raises(ModelNotFound, match="Paths may be named of models in --models-dir"):
        await fleet.choose("/models/a")


async def test_server_without_models_says_how_to_get_one(tmp_path: Path) -> None:
    fleet = Fleet(settings_of(models_dir=tmp_path))
    with pytest.raises(InvalidRequest, match=r"has no model: install one .* or start it with --model-path"):
        await fleet.choose(None)
    assert fleet.status == "none"
