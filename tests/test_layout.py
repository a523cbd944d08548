"""The rules of the tree: what may import what, what is packaged, and who keeps clear of MLX."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("app", "queue", "schemas", "workers")
MAY_IMPORT = {
    "schemas": {"schemas"},
    "queue": {"queue", "schemas"},
    "workers": {"workers", "schemas"},
    "app": set(FOLDERS),
}
MLX = {"mlx", "mlx_lm", "mlx_vlm", "mlx_audio"}
CHILD_ONLY = (Path("workers/engine"), Path("workers/handlers"))
MOST_FILES = 20
"""Of code, in one folder."""

WORKERS_ORDER = (
    "workers",
    "workers/folders",
    "workers/folders/unread",
    "workers/hub",
    "workers/parent",
    "workers/cluster",
    "workers/engine",
    "workers/engine/runtime",
    "workers/engine/sandbox",
    "workers/engine/media",
    "workers/engine/output/tool_calls",
    "workers/engine/output",
    "workers/engine/grammar",
    "workers/engine/ranks",
    "workers/engine/kvcache",
    "workers/engine/loading",
    "workers/engine/from_gguf",
    "workers/engine/from_ctranslate2",
    "workers/engine/from_onnx",
    "workers/engine/phonemes",
    "workers/engine/prompt/templates",
    "workers/engine/prompt",
    "workers/engine/passes",
    "workers/engine/sampling",
    "workers/engine/decode",
    "workers/engine/propose",
    "workers/engine/embed/inputs",
    "workers/engine/embed",
    "workers/engine/vision/mended",
    "workers/engine/vision",
    "workers/engine/embed/multimodal",
    "workers/engine/rerank",
    "workers/engine/hear",
    "workers/engine/speak",
    "workers/engine/draw",
    "workers/handlers",
    "workers/child",
)
APP_ORDER = (
    "app",
    "app/machine",
    "app/config",
    "app/storage",
    "app/files",
    "app/catalog",
    "app/registry",
    "app/doctor",
    "app/media",
    "app/hub",
    "app/deployment",
    "app/fleet",
    "app/http",
    "app/views",
    "app/middleware",
    "app/encoders",
    "app/responses",
    "app/batches",
    "app/routes",
    "app/routes/management",
    "app/routes/offline",
    "app/live",
    "app/openapi",
    "app/server",
    "app/connect",
    "app/terminal",
    "app/demo",
    "app/service",
    "app/cli",
)
ORDERS = {"workers": WORKERS_ORDER, "app": APP_ORDER}
"""Folders from the lowest to the highest: each imports only those before it, so that there is no cycle."""

ENTRY_POINTS = {Path("app/main.py"), Path("app/__main__.py"), Path("workers/__main__.py")}
"""They stand in the lowest folder and start what is in the highest."""

WITHOUT_MLX = ("workers/engine/output", "workers/engine/sandbox", "workers/folders", "workers/parent")
"""Folders below `workers` that no thread of MLX runs; `output` is the worker's event loop's."""


class Import(NamedTuple):
    file: Path
    line: int
    module: str
    in_function: bool
    for_types: bool = False
    """It is named for the type checker only."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def _package(file: Path) -> str:
    return ".".join(("mlx_server", *file.parent.parts))


def _names(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    base = ".".join([*parents, *filter(None, [node.module])])
    yield from (f"{base}.{alias.name}" for alias in node.names)


def _walk(node: ast.AST, file: Path, in_function: bool = False, for_types: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for name in _names(child, _package(file)):
                yield Import(file, child.lineno, name, in_function, for_types)
        else:
            inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            typed = for_types or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
            yield from _walk(child, file, inside, typed)


def _sources(folder: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


def _imports(folder: str) -> list[Import]:
    return [
        found
        for file in _sources(folder)
        for found in _walk(ast.parse((ROOT / file).read_text(encoding="utf-8")), file)
    ]


def _is_mlx(found: Import) -> bool:
    return found.module.split(".")[0] in MLX


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_queue_has_no_init_because_it_would_shadow_the_standard_library() -> None:
    assert not (ROOT / "queue" / "__init__.py").exists()


def test_import_queue_in_the_repository_root_gives_the_standard_library() -> None:
    queue_file = Path(_python("import queue; print(queue.__file__)"))
    assert queue_file.name == "queue.py"
    assert not queue_file.is_relative_to(ROOT / "queue")


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_follow_the_arrows(folder: str) -> None:
    wrong = [
        str(found)
        for found in _imports(folder)
        if found.module.startswith("mlx_server.") and found.module.split(".")[1] not in MAY_IMPORT[folder]
    ]
    assert wrong == []


def _folder_of(module: str) -> str:
    """The folder that a module of ours, or a name in one, comes from."""
    place = ROOT.joinpath(*module.split(".")[1:])
    while not place.is_dir() and not place.with_suffix(".py").is_file():
        place = place.parent
    folder = place if place.is_dir() else place.parent
    return str(folder.relative_to(ROOT))


@pytest.mark.parametrize("top", ORDERS)
def test_folders_import_only_lower_ones(top: str) -> None:
    order = ORDERS[top]
    wrong = [
        str(found)
        for found in _imports(top)
        if found.module.startswith(f"mlx_server.{top}.") and not found.for_types and found.file not in ENTRY_POINTS
        if order.index(_folder_of(found.module)) > order.index(str(found.file.parent))
    ]
    assert wrong == []


@pytest.mark.parametrize("top", ORDERS)
def test_order_names_each_folder_once(top: str) -> None:
    assert sorted(ORDERS[top]) == sorted({str(file.parent) for file in _sources(top)})


def test_no_folder_is_so_full_that_a_reader_gets_lost() -> None:
    folders = Counter(file.parent for top in (*FOLDERS, "tests", "bench") for file in _sources(top))
    assert {str(folder): count for folder, count in folders.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("folder", WITHOUT_MLX)
def test_what_no_thread_of_mlx_runs_is_imported_without_it(folder: str) -> None:
    modules = [".".join(("mlx_server", *file.with_suffix("").parts)) for file in _sources(folder)]
    code = (
        f"import importlib, sys\nfor module in {modules}: importlib.import_module(module)\n"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('mlx', 'mlx_lm', 'mlx_vlm')"
        " or name.startswith('mlx_server.workers.engine.decode')))"
    )
    assert _python(code) == ""


@pytest.mark.parametrize("folder", ["app", "queue", "schemas"])
def test_the_front_end_never_imports_mlx(folder: str) -> None:
    assert [str(found) for found in _imports(folder) if _is_mlx(found)] == []


def test_workers_import_mlx_at_module_level_only_on_the_child_side() -> None:
    wrong = [
        str(found)
        for found in _imports("workers")
        if _is_mlx(found)
        and not found.in_function
        and not any(found.file.is_relative_to(child) for child in CHILD_ONLY)
    ]
    assert wrong == []


def test_the_front_end_process_loads_no_heavy_module() -> None:
    code = (
        "import sys, mlx_server.app.cli.cli, mlx_server.app.server.server\n"
        "heavy = {'mlx', 'mlx_lm', 'mlx_vlm', 'transformers', 'numpy', 'gguf2mlx', 'httpcore2', 'PIL'}\n"
        "heavy |= {'socketio', 'wsproto', 'limits'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    assert _python(code) == ""


def test_every_folder_with_code_is_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packaged = set(project["tool"]["setuptools"]["packages"])
    on_disk = {_package(file) for folder in FOLDERS for file in _sources(folder)}
    assert packaged == on_disk


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_says_that_it_is_typed(folder: str) -> None:
    assert (ROOT / folder / "py.typed").is_file()
