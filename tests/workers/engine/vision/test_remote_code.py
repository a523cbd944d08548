import json
import shutil
from pathlib import Path

import pytest
from support.tiny.sight import SHAPES
from transformers import AutoConfig, dynamic_module_utils

from mlx_server.workers.engine.vision.remote_code import RemoteCodeRefused, remote_code_refused


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A model whose config has a class of its own, which leaves a file behind when it is imported."""
    folder = Path(shutil.copytree(SHAPES, tmp_path / "model"))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'proof')!r}, 'w')\nclass Config: pass\n")
    config = {"model_type": "nonesuch", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_code_is_refused_even_to_those_who_trust_it(trap: Path, tmp_path: Path) -> None:
    with remote_code_refused(), pytest.raises(RemoteCodeRefused, match="never run"):
        AutoConfig.from_pretrained(trap, trust_remote_code=True)
    assert not (tmp_path / "proof").exists()


def test_afterwards_transformers_is_as_it_was() -> None:
    before = dynamic_module_utils.get_class_in_module
    with remote_code_refused():
        assert dynamic_module_utils.get_class_in_module is not before
    assert dynamic_module_utils.get_class_in_module is before
