"""Which of the folders that were made of .gguf files go, and when."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlx_server.workers.folders.conversions import NAME, Source, drop_older, folder_for_all, hold, made_of, record

HOLDING = """
import sys
from pathlib import Path
from mlx_server.workers.folders.conversions import hold
print(hold(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def _made(cache: Path, identity: str, path: str = "/models/m.gguf", dtype: str = "float32") -> Path:
    folder = folder_for_all(cache) / identity
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"1")
    record(folder, Source(path, dtype, identity))
    return folder


def test_older_conversions_of_a_file_go_and_no_others(tmp_path: Path) -> None:
    older, new = _made(tmp_path, "m-1"), _made(tmp_path, "m-2")
    others = [_made(tmp_path, "m-3", "/models/other/m.gguf"), _made(tmp_path, "m-4", dtype="float16")]
    unknown = folder_for_all(tmp_path) / "m-5"
    unknown.mkdir()
    drop_older(Source("/models/m.gguf", "float32", "m-2"), tmp_path)
    assert not older.exists()
    assert sorted(folder_for_all(tmp_path).iterdir()) == [new, *others, unknown]
    assert list(made_of(Path("/models/m.gguf"), tmp_path)) == [new, others[1]]


def test_a_conversion_stays_while_a_process_that_loads_it_lives(tmp_path: Path) -> None:
    folder, source = _made(tmp_path, "m-1"), Source("/models/m.gguf", "float32", "m-2")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        drop_older(source, tmp_path)
        assert (folder / "model.safetensors").is_file()
        process.kill()
    drop_older(source, tmp_path)
    assert not folder.exists()
    assert not hold(folder)


@pytest.mark.parametrize("content", [None, b"{", b'{"path": 1}'])
def test_a_conversion_of_which_nobody_knows_the_file_stays(tmp_path: Path, content: bytes | None) -> None:
    folder = folder_for_all(tmp_path) / "m-1"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / NAME).write_bytes(content)
    drop_older(Source("/models/m.gguf", "float32", "m-2"), tmp_path)
    assert hold(folder)
    assert made_of(Path("/models/m.gguf"), tmp_path) == {}
