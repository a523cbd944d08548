import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.engines import Outcome, alone
from support.tiny.adapters import edit_config, make_adapter

from mlx_server.workers.engine.loading.adapters import AdapterError, Adapters

pytestmark = pytest.mark.model
PROMPT = [5, 6, 7, 8, 9]


@pytest.fixture
def model(tiny_model: Callable[[str], Path]) -> Any:
    """A model that no other test has had."""
    from mlx_lm.utils import load_model

    return load_model(tiny_model("llama"))[0]


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder with the adapters a, b and d (DoRA)."""
    for seed, (name, kind) in enumerate({"a": "lora", "b": "lora", "d": "dora"}.items()):
        make_adapter(tiny_model("llama"), tmp_path / "adapters" / name, seed, kind=kind, rank=4 + seed)
    return tmp_path / "adapters"


def answer(model: Any) -> Outcome:
    return alone(model, PROMPT, 16)


def parameters(model: Any) -> dict[str, Any]:
    from mlx.utils import tree_flatten

    return dict(tree_flatten(model.parameters()))


def with_mlx_lm(model_folder: Path, adapter: Path) -> Outcome:
    """What mlx-lm says with an adapter that it loaded itself."""
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    model = load_adapters(load_model(model_folder)[0], str(adapter))
    model.eval()
    return answer(model)


def test_each_adapter_answers_as_mlx_lm_does_with_it(
    model: Any, folder: Path, tiny_model: Callable[[str], Path]
) -> None:
    adapters = Adapters(model, None, folder)
    expected = {name: with_mlx_lm(tiny_model("llama"), folder / name) for name in "abd"}
    expected["none"] = answer(model)
    assert len({tuple(outcome.tokens) for outcome in expected.values()}) == 4, "the adapters change nothing"
    for name in ("a", "b", "none", "d", "a", "d", "b", "b", "none"):
        adapters.use(name)
        assert answer(model) == expected[name], name


def test_the_model_is_exactly_what_it_was_once_an_adapter_is_off(model: Any, folder: Path) -> None:
    import mlx.core as mx

    before = {name: mx.array(array) for name, array in parameters(model).items()}
    adapters = Adapters(model, None, folder)
    for name in ("a", "d", None):
        adapters.use(name)
    after = parameters(model)
    assert after.keys() == before.keys()
    assert all(mx.array_equal(after[name], array).item() for name, array in before.items())


def test_the_default_adapter_is_for_those_who_name_none(model: Any, folder: Path) -> None:
    bare = answer(model)
    adapters = Adapters(model, folder / "a", None)
    adapters.use(None)
    with_a = answer(model)
    adapters.use("none")
    assert answer(model) == bare
    assert with_a != bare
    adapters.use(None)
    assert answer(model) == with_a


def test_a_quantised_model_takes_an_adapter_too(model: Any, folder: Path) -> None:
    import mlx.nn as nn

    nn.quantize(model, group_size=32, bits=4, class_predicate=lambda path, module: "proj" in path)
    bare = answer(model)
    adapters = Adapters(model, None, folder)
    adapters.use("a")
    assert answer(model) != bare
    adapters.use(None)
    assert answer(model) == bare


def test_an_adapter_whose_files_change_is_read_again(
    model: Any, folder: Path, tiny_model: Callable[[str], Path]
) -> None:
    adapters = Adapters(model, None, folder)
    adapters.use("a")
    expected = with_mlx_lm(tiny_model("llama"), folder / "b")
    for name in ("adapters.safetensors", "adapter_config.json"):
        shutil.copy(folder / "b" / name, folder / "a" / name)
        os.utime(folder / "a" / name, ns=(1, 1))
    adapters.use("a")
    assert answer(model) == expected


def _truncated(adapter: Path) -> None:
    path = adapter / "adapters.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _of_the_model(adapter: Path) -> None:
    import mlx.core as mx

    weights = dict(mx.load(str(adapter / "adapters.safetensors")))  # type: ignore[arg-type]
    weights["model.norm.weight"] = mx.zeros(64)
    mx.save_safetensors(str(adapter / "adapters.safetensors"), weights)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no-weights": (lambda a: (a / "adapters.safetensors").unlink(), "adapters.safetensors"),
    "no-config": (lambda a: (a / "adapter_config.json").unlink(), "not there any more"),
    "no-json": (lambda a: (a / "adapter_config.json").write_text("{"), "can't be used"),
    "no-object": (lambda a: (a / "adapter_config.json").write_text("[]"), "can't be used"),
    "rubbish": (lambda a: (a / "adapters.safetensors").write_bytes(b"rubbish" * 20), "can't be used"),
    "truncated": (_truncated, "can't be used"),
    "of-the-model": (_of_the_model, "weights of the model itself, such as model.norm.weight"),
    "another-rank": (
        lambda a: edit_config(a, lora_parameters={"rank": 3, "scale": 1.0, "dropout": 0.0}),
        "does not match",
    ),
    "no-scale": (lambda a: edit_config(a, lora_parameters={"rank": 4, "alpha": 1.0, "dropout": 0.0}), "scale"),
    "no-layers": (lambda a: edit_config(a, num_layers="all"), "can't be used"),
    "too-few-layers": (lambda a: edit_config(a, num_layers=1), "not an adapter parameter"),
    "full": (lambda a: edit_config(a, fine_tune_type="full"), "'full' can't be taken off again"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("before", [None, "b"])
def test_a_broken_adapter_is_refused_and_leaves_the_model_as_it_was(
    model: Any, folder: Path, damage: str, before: str | None
) -> None:
    names = [name for name, _ in model.named_modules()]
    bare = answer(model)
    adapters = Adapters(model, None, folder)
    adapters.use(before)
    with_before = answer(model)
    do, reason = DAMAGES[damage]
    do(folder / "a")
    for _ in range(2):
        with pytest.raises(AdapterError) as caught:
            adapters.use("a")
        message = str(caught.value)
        assert reason in message
        assert message.startswith("`adapters`: 'a' can't be used: ")
        assert str(folder) not in message
        assert caught.value.requested
    adapters.use(None)
    assert answer(model) == bare
    assert [name for name, _ in model.named_modules()] == names
    adapters.use(before)
    assert answer(model) == with_before


def test_a_broken_default_adapter_is_nobodys_request(model: Any, folder: Path) -> None:
    (folder / "a" / "adapters.safetensors").unlink()
    with pytest.raises(AdapterError, match="the default adapter can't be used") as caught:
        Adapters(model, folder / "a", None).use(None)
    assert not caught.value.requested


def test_an_adapter_for_other_layers_is_refused(model: Any, folder: Path) -> None:
    import mlx.core as mx

    config = json.loads((folder / "a" / "adapter_config.json").read_text())
    edit_config(folder / "a", lora_parameters={**config["lora_parameters"], "keys": ["nonesuch"]})
    mx.save_safetensors(str(folder / "a" / "adapters.safetensors"), {})
    with pytest.raises(AdapterError, match="no layer of this model"):
        Adapters(model, None, folder).use("a")
