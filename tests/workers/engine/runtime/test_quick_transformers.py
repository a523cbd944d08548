import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_server.workers.engine.runtime.quick_transformers import FOLDER, Structure, keeping

NAMES = """
import sys
from pathlib import Path
from mlx_server.workers.engine.runtime.quick_transformers import quicken
quicken(Path(sys.argv[1]))
import transformers
from transformers import AutoTokenizer
print(AutoTokenizer.__module__, len(dir(transformers)), hash(frozenset(dir(transformers))))
"""


@pytest.fixture(scope="module")
def library() -> Callable[[Any], Structure]:
    """transformers' own function."""
    from transformers.utils.import_utils import create_import_structure_from_path

    return create_import_structure_from_path  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def models() -> Path:
    import transformers

    return Path(transformers.__file__).parent / "models" / "llama"


def _never(path: Any) -> Structure:
    raise AssertionError(f"{path} was looked at")


def test_what_is_kept_is_what_transformers_finds(
    library: Callable[[Any], Structure], models: Path, tmp_path: Path
) -> None:
    first = keeping(library, models, tmp_path)(models)
    assert first == library(str(models)) != {}
    assert keeping(_never, models, tmp_path)(str(models / "__init__.py")) == first


def test_other_folders_are_left_to_transformers(
    library: Callable[[Any], Structure], models: Path, tmp_path: Path
) -> None:
    other = models.parent / "gemma"
    assert keeping(library, models, tmp_path)(other) == library(str(other))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_has_changed_is_looked_at_again(library: Callable[[Any], Structure], tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "one.py").write_text('__all__ = ["One"]\n')
    keeping(library, models, tmp_path)(models)
    library.cache_clear()  # type: ignore[attr-defined]
    (models / "two.py").write_text('__all__ = ["Two"]\n')
    assert keeping(library, models, tmp_path)(models) == {frozenset(): {"one": {"One"}, "two": {"Two"}}}


@pytest.mark.parametrize("damage", [b"", b"[{", b"{}", b"\xff"])
def test_a_damaged_file_is_made_again(
    library: Callable[[Any], Structure], models: Path, tmp_path: Path, damage: bytes
) -> None:
    first = keeping(library, models, tmp_path)(models)
    [file] = (tmp_path / FOLDER).iterdir()
    kept = file.read_bytes()
    file.write_bytes(damage)
    assert keeping(library, models, tmp_path)(models) == first
    assert file.read_bytes() == kept


def test_a_process_imports_the_same_names_from_what_is_kept(tmp_path: Path) -> None:
    def names() -> str:
        command = [sys.executable, "-c", NAMES, str(tmp_path)]
        environment = {"PYTHONHASHSEED": "0"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    first = names()
    [file] = (tmp_path / FOLDER).iterdir()
    assert names() == first
    assert [file] == list((tmp_path / FOLDER).iterdir())
