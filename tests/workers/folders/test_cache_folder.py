import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlx_server.workers.folders.cache_folder import make_once


def _discard(_: str) -> None:
    pass


def _build(scratch: Path) -> Path:
    (scratch / "leftover").write_text("of no use")
    folder = scratch / "result"
    folder.mkdir()
    (folder / "weights").write_text("whole")
    return folder


def test_make_once_builds_only_the_first_time(tmp_path: Path) -> None:
    final = tmp_path / "cache" / "model"
    assert make_once(final, _build, _discard) == final

    def build_again(scratch: Path) -> Path:
        raise AssertionError("built twice")

    assert make_once(final, build_again, _discard) == final
    assert (final / "weights").read_text() == "whole"
    assert sorted(path.name for path in final.parent.iterdir()) == [".lock", "model"]


def test_make_once_leaves_nothing_when_the_build_fails(tmp_path: Path) -> None:
    def fail(scratch: Path) -> Path:
        _build(scratch)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        make_once(tmp_path / "model", fail, _discard)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_make_once_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    stale = tmp_path / ".scratch-of-the-dead"
    stale.mkdir()
    (stale / "half").write_text("")
    make_once(tmp_path / "model", _build, _discard)
    assert not stale.exists()


def test_make_once_waits_for_whoever_builds_and_takes_its_result(tmp_path: Path) -> None:
    building, second_waits = threading.Event(), threading.Event()
    builds: list[Path] = []
    reports: list[str] = []

    def slow(scratch: Path) -> Path:
        builds.append(scratch)
        building.set()
        assert second_waits.wait(10)
        return _build(scratch)

    def on_report(text: str) -> None:
        reports.append(text)
        second_waits.set()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(make_once, tmp_path / "model", slow, _discard)
        assert building.wait(10)
        second = threads.submit(make_once, tmp_path / "model", slow, on_report)
        assert first.result(10) == second.result(10) == tmp_path / "model"
    assert len(builds) == 1
    assert len(reports) == 1
    assert "Waiting for another process" in reports[0]
