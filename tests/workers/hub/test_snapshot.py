"""What the hub's real client and our own hands bring into its cache, from a hub on this machine."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import WeakFileLock
from support.running.hub import TOKEN, LocalHub, Repo, running

from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import (
    ChecksumMismatch,
    HubBusy,
    HubDenied,
    HubNotFound,
    HubOffline,
    NotEnoughDisk,
    NothingToServe,
    TokenRefused,
)
from mlx_server.workers.hub.files import needed
from mlx_server.workers.hub.snapshot import fetch

SIZE = 1 << 20
WEIGHTS = os.urandom(SIZE)
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": WEIGHTS,
    "1_Pooling/config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
    "chat_template.jinja": b"{{ messages }}",
    "pytorch_model.bin": b"p" * 5000,
    "onnx/model.onnx": b"o" * 5000,
    ".gitattributes": b"",
}
SMALL = sum(len(data) for path, data in FILES.items() if len(data) < 1024)


def ignore(done: int, total: int) -> None:
    pass


def repo(**how: object) -> Repo:
    return Repo("mlx-community/tiny", FILES, **how)  # type: ignore[arg-type]


def incomplete(cache: Path) -> list[Path]:
    return list(cache.rglob("*.incomplete"))


def fetched(hub: LocalHub, cache: Path, **how: object) -> Path:
    return fetch("mlx-community/tiny", HubAccess(hub.url, None, cache), ignore, **how)  # type: ignore[arg-type]


def half_there(hub: LocalHub, cache: Path) -> int:
    """Leave half of the weights, as a kill does; returns how many bytes that is."""
    [folder] = [path.parent for path in cache.rglob("blobs/*") if path.stat().st_size == SIZE]
    [blob] = [path for path in folder.iterdir() if path.stat().st_size == SIZE]
    blob.with_name(f"{blob.name}.incomplete").write_bytes(WEIGHTS[: SIZE // 2])
    blob.unlink()
    hub.requests.clear()
    hub.sent = 0
    return SIZE // 2


def test_only_the_files_of_a_model_are_fetched_into_the_hubs_own_cache(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with running(LocalHub(repo())) as hub:
        access = HubAccess(hub.url, None, tmp_path)
        folder = fetch("mlx-community/tiny", access, lambda done, total: told.append((done, total)))
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        path: data for path, data in FILES.items() if not path.startswith((".git", "onnx")) and path[-4:] != ".bin"
    }
    assert folder.parent == tmp_path / "models--mlx-community--tiny" / "snapshots"
    assert (tmp_path / "models--mlx-community--tiny/refs/main").read_text() == folder.name
    assert told[0] == (0, SIZE + SMALL)
    assert told[-1] == (SIZE + SMALL, SIZE + SMALL)


def test_what_is_there_is_not_fetched_again_unless_forced(tmp_path: Path) -> None:
    with running(LocalHub(repo())) as hub:
        folder = fetched(hub, tmp_path)
        hub.sent = 0
        assert fetched(hub, tmp_path) == folder
        assert hub.sent == 0
        assert fetched(hub, tmp_path, force=True) == folder
        assert hub.sent == SIZE
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_connection_that_breaks_is_gone_on_with(tmp_path: Path) -> None:
    with running(LocalHub(repo(cuts=1))) as hub:
        folder = fetched(hub, tmp_path)
        assert [request.range for request in hub.asked_for("/lfs/")] == [None, f"bytes={SIZE // 2}-"]
        assert hub.sent == SIZE
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(("ranges", "sent"), [(True, SIZE // 2), (False, SIZE)])
def test_what_a_kill_has_left_is_gone_on_with(tmp_path: Path, ranges: bool, sent: int) -> None:
    with running(LocalHub(repo(ranges=ranges))) as hub:
        fetched(hub, tmp_path)
        half = half_there(hub, tmp_path)
        told: list[tuple[int, int]] = []
        access = HubAccess(hub.url, None, tmp_path)
        folder = fetch("mlx-community/tiny", access, lambda done, total: told.append((done, total)))
        assert hub.asked_for("/lfs/")[0].range == f"bytes={half}-"
        assert hub.sent == sent
    assert told[0] == (SMALL + half, SMALL + SIZE)
    assert told[-1] == (SMALL + SIZE, SMALL + SIZE)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("rest", [0, SIZE // 4, SIZE // 2])
def test_what_another_process_brings_meanwhile_is_counted_and_left_alone(
    tmp_path: Path, force: bool, rest: int
) -> None:
    """It has the file's lock, and brings `rest` more bytes of the half that there is; then this one goes on."""
    with running(LocalHub(repo())) as hub, ThreadPoolExecutor(1) as pool:
        fetched(hub, tmp_path)
        half = half_there(hub, tmp_path)
        [unfinished] = incomplete(tmp_path)
        blob = unfinished.with_suffix("")
        told: list[tuple[int, int]] = []
        begun = Event()

        def report(done: int, total: int) -> None:
            told.append((done, total))
            begun.set()

        access = HubAccess(hub.url, None, tmp_path)
        with WeakFileLock(tmp_path / ".locks/models--mlx-community--tiny" / f"{blob.name}.lock"):
            running_fetch = pool.submit(fetch, "mlx-community/tiny", access, report, force=force)
            assert begun.wait(60)
            with unfinished.open("r+b") as other:
                other.seek(half)
                other.write(WEIGHTS[half : half + rest])
            if half + rest == SIZE:
                unfinished.replace(blob)
        folder = running_fetch.result(60)
        assert hub.sent == (SIZE if force else SIZE - half - rest)
    assert told[0] == ((0 if force else SMALL + half), SMALL + SIZE)
    assert told[-1] == (SMALL + SIZE, SMALL + SIZE)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_forced_files_take_the_room_of_what_they_replace(tmp_path: Path) -> None:
    with running(LocalHub(repo())) as hub:
        fetched(hub, tmp_path)
        half = half_there(hub, tmp_path)
        with pytest.raises(NotEnoughDisk):
            fetched(hub, tmp_path, force=True, free=lambda folder: SMALL + half - 1)
        assert incomplete(tmp_path)[0].stat().st_size == half
        fetched(hub, tmp_path, force=True, free=lambda folder: SMALL + half)
        assert hub.sent == SIZE


def test_a_file_that_is_not_what_the_hub_says_is_removed(tmp_path: Path) -> None:
    liar = repo(lies=True)
    with running(LocalHub(liar)) as hub:
        with pytest.raises(ChecksumMismatch, match=r"^model\.safetensors is damaged: its checksum is [0-9a-f]{12}"):
            fetched(hub, tmp_path)
        assert incomplete(tmp_path) == []
        assert not list(tmp_path.rglob("model.safetensors"))
        liar.lies = False
        assert (fetched(hub, tmp_path) / "model.safetensors").read_bytes() == WEIGHTS


def test_damage_in_what_was_left_is_found(tmp_path: Path) -> None:
    with running(LocalHub(repo())) as hub:
        fetched(hub, tmp_path)
        half_there(hub, tmp_path)
        incomplete(tmp_path)[0].write_bytes(bytes(SIZE // 2))
        with pytest.raises(ChecksumMismatch):
            fetched(hub, tmp_path)
        assert incomplete(tmp_path) == []


def test_too_little_room_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    with running(LocalHub(repo(claims={"model.safetensors": 40_200_000_000}))) as hub:
        with pytest.raises(
            NotEnoughDisk, match=r"^Not enough disk space for mlx-community/tiny: 40\.2 GB .* 18\.5 GB are free in "
        ):
            fetched(hub, tmp_path, free=lambda folder: 18_500_000_000)
        assert hub.sent == 0


def test_a_gated_repository_is_given_with_a_token_which_other_hosts_do_not_get(tmp_path: Path) -> None:
    with running(LocalHub(repo(gated=True))) as hub:
        with pytest.raises(HubDenied, match="set HF_TOKEN"):
            fetched(hub, tmp_path)
        fetch("mlx-community/tiny", HubAccess(hub.url, TOKEN, tmp_path), ignore)
        assert {request.authorization for request in hub.asked_for("/lfs/")} == {None}


def test_a_missing_repository_is_not_found(tmp_path: Path) -> None:
    with running(LocalHub()) as hub, pytest.raises(HubNotFound, match="mlx-community/tiny"):
        fetched(hub, tmp_path)


def test_a_repository_without_weights_for_mlx_is_nothing_to_serve(tmp_path: Path) -> None:
    torch = Repo("mlx-community/tiny", {"config.json": b"{}", "pytorch_model.bin": b"p" * 5000})
    with running(LocalHub(torch)) as hub, pytest.raises(NothingToServe, match=r"no \*\.safetensors"):
        fetched(hub, tmp_path)


@pytest.mark.parametrize(
    ("files", "fetched_files"),
    [
        (["weights.safetensors"], ["weights.safetensors"]),
        (["weights.00.safetensors", "weights.01.safetensors"], ["weights.00.safetensors", "weights.01.safetensors"]),
        (["kokoro-v1_0.safetensors", "voices/a.safetensors", "voices/a.pt"], ["kokoro-v1_0.safetensors", "voices/a.s"]),
        (["model.safetensors", "voices.npz", "embeddings/b.safetensors", "other.safetensors"], ["model", "voi", "emb"]),
        (["own.safetensors", "consolidated.safetensors", "adapters.safetensors"], ["own.safetensors"]),
        (["consolidated.safetensors"], ["consolidated.safetensors"]),
        (["odd[1]*.safetensors"], ["odd[1]*.safetensors"]),
    ],
)
def test_weights_by_other_names_and_voices_are_fetched_and_known_without_a_connection(
    tmp_path: Path, files: list[str], fetched_files: list[str]
) -> None:
    wanted = [next(file for file in files if file.startswith(name)) for name in fetched_files]
    other = Repo("mlx-community/tiny", {"config.json": b"{}"} | {file: file.encode() for file in files})
    with running(LocalHub(other)) as hub:
        folder = fetched(hub, tmp_path)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.json", *wanted}
    assert fetched(hub, tmp_path) == folder
    (folder / wanted[0]).unlink()
    with pytest.raises(HubOffline):
        fetched(hub, tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        ["voices/a.safetensors", "config.json"],
        ["adapters.safetensors", "config.json"],
        ["flux.safetensors"],
        ["flux.safetensors", "config.json", "model_index.json"],
    ],
)
def test_voices_adapters_and_weights_without_a_configuration_alone_are_nothing_to_serve(
    tmp_path: Path, files: list[str]
) -> None:
    other = Repo("mlx-community/tiny", dict.fromkeys(files, b"{}"))
    with running(LocalHub(other)) as hub, pytest.raises(NothingToServe, match=r"no \*\.safetensors files with"):
        fetched(hub, tmp_path)


def test_without_a_connection_a_whole_folder_of_earlier_is_given(tmp_path: Path) -> None:
    with running(LocalHub(repo())) as hub:
        folder = fetched(hub, tmp_path)
    assert fetched(hub, tmp_path) == folder
    with pytest.raises(HubOffline):
        fetched(hub, tmp_path, force=True)
    (folder / "model.safetensors").unlink()
    with pytest.raises(HubOffline, match="can't be reached"):
        fetched(hub, tmp_path)


@pytest.mark.parametrize(
    ("refusal", "error", "why"),
    [
        ({"status": 429}, HubBusy, "takes no more requests"),
        ({"status": 401}, TokenRefused, "refuses the token"),
        ({"status": 403}, HubDenied, "does not give access"),
        ({"repos": {}}, HubNotFound, "There is no model"),
        ({"repos": {"mlx-community/tiny": Repo("mlx-community/tiny", {"README.md": b""})}}, NothingToServe, "has no"),
    ],
)
def test_what_the_hub_refuses_is_given_as_it_was_downloaded_earlier(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, refusal: dict[str, Any], error: type[Exception], why: str
) -> None:
    with running(LocalHub(repo())) as hub:
        folder = fetched(hub, tmp_path)
        vars(hub).update(refusal)
        assert fetched(hub, tmp_path) == folder
        assert re.search(f"mlx-community/tiny is used as it was downloaded earlier: .*{why}", caplog.text)
        with pytest.raises(error):
            fetched(hub, tmp_path, force=True)
        (folder / "model.safetensors").unlink()
        with pytest.raises(error):
            fetched(hub, tmp_path)


def test_newer_files_that_the_hub_does_not_give_leave_the_earlier_ones_in_use(tmp_path: Path) -> None:
    one = repo()
    with running(LocalHub(one)) as hub:
        folder = fetched(hub, tmp_path)
        one.files = {**FILES, "model.safetensors": WEIGHTS[::-1]}
        one.gated = True
        assert fetched(hub, tmp_path) == folder
        one.gated = False
        newer = fetched(hub, tmp_path)
        assert newer != folder
        assert (newer / "model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_a_lone_configuration_is_no_whole_folder(tmp_path: Path) -> None:
    with running(LocalHub(repo())) as hub:
        kind_on_hub_asks(hub, tmp_path)
        hub.status = 429
        with pytest.raises(HubBusy):
            fetched(hub, tmp_path)


def kind_on_hub_asks(hub: LocalHub, cache: Path) -> None:
    """What is asked for to know what a model is."""
    hf_hub_download("mlx-community/tiny", "config.json", cache_dir=cache, endpoint=hub.url)


@pytest.mark.parametrize(("status", "error"), [(500, HubOffline), (429, HubBusy), (403, HubDenied)])
def test_what_the_hub_refuses_is_told_as_what_it_means(tmp_path: Path, status: int, error: type[Exception]) -> None:
    with running(LocalHub(repo())) as hub:
        hub.status = status
        with pytest.raises(error):
            fetched(hub, tmp_path)


def test_the_token_is_read_from_either_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HUGGINGFACE_HUB_TOKEN", "second")
    assert HubAccess.from_environment().token == "second"
    monkeypatch.setenv("HF_TOKEN", "first")
    assert HubAccess.from_environment().token == "first"


@pytest.mark.parametrize(
    "path", ["../outside.json", "/outside.json", "inner/../../outside.json", "a\\b.json", "./a.json"]
)
def test_paths_that_lead_elsewhere_are_no_files(path: str) -> None:
    class Sibling:
        rfilename, size, lfs, blob_id = path, 3, None, "0" * 40

    assert needed([Sibling]) == []
    Sibling.rfilename = "inner/config.json"
    assert [file.path for file in needed([Sibling])] == ["inner/config.json"]
