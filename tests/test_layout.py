"""The rules of the tree: what may import what, what is packaged, and who keeps clear of MLX."""

import ast
import subprocess
import sys
import tomllib
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


class Import(NamedTuple):
    file: Path
    line: int
    module: str
    in_function: bool

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


def _walk(node: ast.AST, file: Path, in_function: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for name in _names(child, _package(file)):
                yield Import(file, child.lineno, name, in_function)
        else:
            inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _walk(child, file, inside)


def _sources(folder: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


def _imports(folder: str) -> list[Import]:
    return [
        found
        for file in _sources(folder)
        for found in _walk(ast.parse((ROOT / file).read_text(encoding="utf-8")), file, False)
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
