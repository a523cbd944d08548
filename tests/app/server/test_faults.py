"""The short form of `make bench-faults`: a few of each kind of fault, done to a real server under eight clients."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.running.servers import ROOT

pytestmark = pytest.mark.model


def _parts(out: Path, *arguments: str) -> Any:
    """What the parts of the benchmark found."""
    command = [sys.executable, str(ROOT / "bench" / "faults" / "run.py"), *arguments, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 2), done.stdout + done.stderr
    return json.loads(out.read_text())


def _rows(part: str, out: Path, *arguments: str) -> Any:
    """What one of them found."""
    return _parts(out, *arguments)[part]["rows"]


ONLY = ["SIGKILL", "sampler", "detokeniser", "half a frame", "socket buffer", "out of memory", "clients leave"]
ONLY += ["slow heads", *(["full disk"] if os.geteuid() == 0 else [])]  # a disk of its own is mounted by root


@pytest.fixture(scope="module")
def done_to_one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What was found of faults and of kills, by part: all are done to one server."""
    out = tmp_path_factory.mktemp("faults") / "out.json"
    return _parts(out, "--only", ",".join(ONLY), "--kills", "3")


def test_faults_end_each_request_once_and_honestly_and_leave_nothing(done_to_one: Any) -> None:
    found = done_to_one["faults"]["rows"]
    assert len(found) == len(ONLY)
    for one in found:
        assert set(one["outcomes"]) <= {"ok", "error"}, one
        assert set(one["beside"]) <= {"ok", "error"}, one
        assert (set(one["neighbour"]), one["leaked"]) == ({"ok"}, {}), one


def test_kills_at_random_moments_hang_nothing_and_change_no_answer(done_to_one: Any) -> None:
    found = done_to_one["kills"]["rows"]
    assert found["kills"] == 3
    assert set(found["outcomes"]) <= {"ok", "error"}
    assert (set(found["neighbour"]), found["leaked"]) == ({"ok"}, {})


def test_slots_come_back_whenever_their_clients_leave(tmp_path: Path) -> None:
    found = _rows("leave", tmp_path / "out.json", "--leave", "40")
    assert (found["leavers"], found["leaked"]) == (40, {})


def test_who_is_refused_under_twenty_times_the_load_is_served_later(tmp_path: Path) -> None:
    # A real model serves too few in so short a time.
    found_by_name = _rows("overload", tmp_path / "out.json", "--overload", "2", "--only", "scripted,tiny")
    for name, found in found_by_name.items():
        assert found["honest"], (name, found)
        assert found["outcomes"]["http_429"] > found["outcomes"]["ok"] > 0, (name, found)
        back = found["back_after_it"]
        assert back["ok"] > back.get("http_429", 0), (name, found)


def test_soak_samples_every_process_and_all_goes_back_to_what_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, str(ROOT / "bench" / "faults" / "soak.py"), "--minutes", "0.3", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 2), done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["more_at_rest"] == []
    assert {name.partition(" ")[0] for name in found["samples"]} >= {"front", "text", "sliding", "recurrent", "sighted"}
    assert not [end for end in found["ends"] if end.partition(": ")[2] in ("wrong", "dishonest", "hung")]
    assert {"refused: 400", "cancelled: left", "switch: ok"} <= found["ends"].keys()


def test_bodies_that_are_nearly_valid_are_never_the_servers_fault(tmp_path: Path) -> None:
    found = _rows("fuzz", tmp_path / "out.json", "--fuzz", "300", "--seed", "3")
    assert (found["found"], found["troubles"], found["workers_kept"]) == ([], [], True)
    assert found["statuses"]["200"] > 20, "some got through to the models"
