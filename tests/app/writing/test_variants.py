from pathlib import Path
from typing import Any

import pytest

from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.deployment.variants import Variants
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Draft, GenerationRequest, Speculate, TextPrompt

REQUEST = GenerationRequest((TextPrompt("x"),), 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pirate").mkdir()
    (tmp_path / "pirate" / "adapter_config.json").write_text("{}")
    return tmp_path


def _settle(settings: dict[str, Any], adapter: str | None = None, draft: Draft | None = None) -> GenerationRequest:
    request = GenerationRequest((TextPrompt("x"),), 8, adapter=adapter, draft=draft)
    return Variants(ModelSettings("model", **settings)).settle(request)


def _refusal(settings: dict[str, Any], adapter: str | None = None, draft: Draft | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _settle(settings, adapter, draft)
    return caught.value


def test_a_request_that_asks_for_nothing_stays_as_it_is() -> None:
    assert Variants(ModelSettings("model")).settle(REQUEST) is REQUEST


@pytest.mark.parametrize(
    ("default", "name", "expected"),
    [
        (False, None, None),
        (False, "none", None),
        (False, "pirate", "pirate"),
        (True, None, None),
        (True, "none", "none"),
        (True, "pirate", "pirate"),
    ],
)
def test_the_same_adapter_has_one_name(folder: Path, default: bool, name: str | None, expected: str | None) -> None:
    settings = {"adapter_dir": folder, "adapter_path": folder / "pirate" if default else None}
    assert _settle(settings, name).adapter == expected


def test_an_adapters_path_is_its_name(folder: Path) -> None:
    (folder / "alias").symlink_to(folder / "pirate")
    for name in (str(folder / "pirate"), "alias"):
        assert _settle({"adapter_dir": folder}, name).adapter == "pirate"


def test_an_unknown_adapter_is_refused_with_a_list(folder: Path) -> None:
    refusal = _refusal({"adapter_dir": folder}, "../../etc")
    assert refusal.param == "adapters"
    assert refusal.message == (
        "`adapters`: there is no adapter '../../etc'. Allowed are 'none' and the folders of --adapter-dir: pirate."
    )


def test_without_a_folder_no_adapter_may_be_named(folder: Path) -> None:
    refusal = _refusal({"adapter_path": folder / "pirate"}, "pirate")
    assert refusal.param == "adapters"
    assert "--adapter-dir" in refusal.message


DRAFT = {"draft_model": "/models/small"}


@pytest.mark.parametrize(
    ("settings", "given", "expected"),
    [
        ({}, None, None),
        ({}, Draft("none"), Draft("none")),
        (DRAFT, None, None),
        (DRAFT, Draft("/models/small"), Draft()),
        (DRAFT, Draft("small"), Draft()),
        (DRAFT, Draft("default_model"), Draft()),
        (DRAFT, Draft("small", 2), Draft(None, 2)),
        (DRAFT, Draft(None, 2), Draft(None, 2)),
        (DRAFT, Draft("none"), Draft("none")),
    ],
)
def test_a_draft_has_one_name(settings: dict[str, Any], given: Draft | None, expected: Draft | None) -> None:
    assert _settle(settings, draft=given).draft == expected


@pytest.mark.parametrize(
    ("settings", "given", "param", "says"),
    [
        ({}, Draft("small"), "draft_model", "--draft-model"),
        ({}, Draft("small", 3), "draft_model", "--draft-model"),
        ({}, Draft(None, 3), "num_draft_tokens", "--draft-model"),
        (DRAFT, Draft("other"), "draft_model", "'/models/small', 'default_model', 'none', 'small'"),
        (DRAFT, Draft("/models/other"), "draft_model", "'small'"),
        (DRAFT, Draft("none", 3), "num_draft_tokens", "leave one out"),
    ],
)
def test_a_draft_that_is_not_there_is_refused(settings: dict[str, Any], given: Draft, param: str, says: str) -> None:
    refusal = _refusal(settings, draft=given)
    assert refusal.param == param
    assert f"`{param}`" in refusal.message
    assert says in refusal.message


@pytest.mark.parametrize("speculate", ["off", "ngram"])
def test_a_draft_without_guesses_of_its_kind_is_refused(speculate: Speculate) -> None:
    request = GenerationRequest((TextPrompt("x"),), 8, draft=Draft(None, 3), speculate=speculate)
    with pytest.raises(InvalidRequest, match=f"`num_draft_tokens` means nothing when `speculate` is {speculate!r}"):
        Variants(ModelSettings("model", **DRAFT)).settle(request)
