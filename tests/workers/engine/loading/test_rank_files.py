"""Which of a model's files a rank reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny.models import make_model, split_by_layer

from mlx_server.workers.engine.loading.rank_files import files_read, owner

pytestmark = pytest.mark.model

LAYERS = [f"model-layers.{number}.safetensors" for number in range(4)]
REST = "model-rest.safetensors"


@pytest.mark.parametrize(("rank", "layers"), [(0, LAYERS[2:]), (1, LAYERS[:2])])
def test_a_pipelines_rank_reads_its_layers_and_what_is_in_none(tmp_path: Path, rank: int, layers: list[str]) -> None:
    split_by_layer(make_model(tmp_path, "qwen2", num_hidden_layers=4, num_key_value_heads=1))
    assert files_read(tmp_path, rank, 2) == {REST, *layers}


def test_where_layers_are_divided_every_rank_reads_all(tmp_path: Path) -> None:
    split_by_layer(make_model(tmp_path, "qwen2", num_hidden_layers=4, num_key_value_heads=4))
    assert files_read(tmp_path, 1, 2) == {REST, *LAYERS}


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        ("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj"),
        ("model.layers.1.mlp.experts.3.up_proj.weight", "model.layers.1.mlp"),
        ("model.layers.9.mlp.up_proj.weight", "model"),
        ("language_model.layers.1.mlp.up_proj.weight", ""),
    ],
)
def test_a_tensor_belongs_to_the_innermost_part_that_there_is(tensor: str, found: str) -> None:
    names = {"", "model", "model.layers.1", "model.layers.1.mlp", "model.layers.1.mlp.up_proj"}
    assert owner(tensor, names) == found
