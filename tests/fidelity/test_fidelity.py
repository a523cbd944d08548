"""Models are computed as transformers computes them, or the server says what differs."""

import json
from pathlib import Path

import pytest
from fidelity import sentence_outcomes, vision_outcomes
from fidelity.compared import told
from fidelity.outcomes import outcomes
from fidelity.report import PAGE, rest, row, types

from mlx_server.workers.folders.unread.compared import FILE

pytestmark = pytest.mark.model


COMMON = """
    cohere2 deepseek_v3 ernie4_5_moe exaone exaone4 flint gemma2 gemma3_text gemma3n_text gemma4_text glm gpt_neox
    granitemoehybrid jamba kimi_linear lfm2 llama minimax_m2 ministral3 mistral mixtral olmo3 phi3 qwen2 qwen2_moe
    qwen3 qwen3_5_moe_text qwen3_moe qwen3_next smollm3 starcoder2
    """.split()  # noqa: SIM905 - a list would have a line for each
"""Of each kind of difference one at least; `make fidelity` takes all types."""


@pytest.mark.parametrize("model_type", COMMON)
def test_nothing_differs_silently(model_type: str, tmp_path: Path) -> None:
    found = list(outcomes(model_type, tmp_path))
    assert [one for one in found if one.state == "silent"] == []
    page = PAGE.read_text()
    assert row(model_type, found) in page
    for line in rest(model_type, found):
        assert line in page


def test_enough_is_compared() -> None:
    assert len(types()) >= 60


@pytest.mark.parametrize("part", ["embeddings", "rerankers"])
@pytest.mark.parametrize("kind", sentence_outcomes.kinds())
def test_no_vector_and_no_score_differs_silently(kind: str, part: sentence_outcomes.Part, tmp_path: Path) -> None:
    found = list(sentence_outcomes.outcomes(kind, part, tmp_path))
    assert [one for one in found if one.state == "silent"] == []
    assert not found or row(kind, found) in PAGE.read_text()


SEEING = """
    aya_vision cohere2_vision cohere_compass gemma3 gemma4 glm4v glm4v_moe glm5_next glm_ocr hunyuan_vl idefics2
    idefics3 internvl kimi_k25 lfm2_vl llama4 llava llava_next llava_onevision minimax_m3_vl mistral3 muse_glimmer
    paddleocr_vl paligemma pixtral qwen2_5_vl qwen2_vl qwen3_5 qwen3_5_moe qwen3_vl qwen3_vl_moe smolvlm
    """.split()  # noqa: SIM905 - a list would have a line for each
"""Those of which something is computed; `make fidelity` takes all types."""


@pytest.mark.parametrize("model_type", SEEING)
def test_nothing_is_seen_differently_in_silence(model_type: str, tmp_path: Path) -> None:
    found = list(vision_outcomes.outcomes(model_type, tmp_path))
    assert [one for one in found if one.state == "silent"] == []
    assert {one.state for one in found} & {"equal", "announced"}
    assert row(model_type, found) in PAGE.read_text()


def test_the_server_knows_what_was_compared() -> None:
    assert json.loads(FILE.read_text()) == told(PAGE.read_text())


@pytest.mark.parametrize("model_type", ["gemma3", "llama4"])
def test_nothing_differs_silently_without_pictures(model_type: str, tmp_path: Path) -> None:
    found = list(vision_outcomes.blind_outcomes(model_type, tmp_path))
    assert [one for one in found if one.state == "silent"] == []
    assert row(model_type, found) in PAGE.read_text()


def test_enough_models_that_see_are_compared() -> None:
    assert len(vision_outcomes.types()) >= 20
