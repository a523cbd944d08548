"""The Dockerfile: nothing that its linter minds, and all that it copies makes a package."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from support.running.servers import ROOT


def test_its_linter_finds_nothing() -> None:
    linter = Path(sysconfig.get_path("scripts"), "hadolint")
    told = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, ""), told.stdout


def test_what_is_left_for_it_makes_a_package(tmp_path: Path) -> None:
    ignored = {
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("#", ".", "*", "")
    }
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in files:
        if name.split("/")[0] not in ignored and not name.startswith("."):
            (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "src" / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, tmp_path / "src"]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    ours = {f"mlx_server/{name}" for name in files if name.startswith(("app/", "queue/", "schemas/", "workers/"))}
    assert ours <= names
