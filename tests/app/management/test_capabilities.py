"""What each kind of model is good for."""

from __future__ import annotations

from typing import get_args

import pytest

from mlx_server.app.config.settings import ModelType
from mlx_server.app.views.capabilities import VISION_ON_TEXT, check_kinds, check_served
from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, ScoreRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Media, MediaKind, Message, Remote
from mlx_server.schemas.internal.messages import ModelFacts
from mlx_server.schemas.internal.work import Work

WRITING = GenerationRequest((ChatPrompt((Message("user", "hi"),)),), 16)
EMBEDDING = EmbeddingRequest((EmbeddingInput("hi", "input"),))
SCORING = ScoreRequest(())


def showing(kind: MediaKind) -> Media:
    return Media(kind, Remote("data:,a"), 0, "messages[1].content[0]")


def looking(kind: MediaKind = "image") -> GenerationRequest:
    messages = (Message("user", "hi"), Message("user", "", media=(showing(kind),)))
    return GenerationRequest((ChatPrompt(messages),), 16)


def served(model_type: ModelType, work: Work) -> bool:
    try:
        check_served(model_type, work)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize(
    ("work", "by"),
    [
        (WRITING, {"lm", "vlm", "scripted"}),
        (EMBEDDING, {"lm", "vlm", "embeddings", "scripted"}),
        (SCORING, {"lm", "vlm", "embeddings", "rerank", "scripted"}),
        (looking(), {"vlm", "scripted"}),
    ],
    ids=["writing", "embedding", "scoring", "looking"],
)
def test_each_kind_of_work_has_its_models(work: Work, by: set[str]) -> None:
    assert {kind for kind in get_args(ModelType) if served(kind, work)} == by


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("image", VISION_ON_TEXT),
        ("video", VISION_ON_TEXT),
        ("audio", "Audio input is not supported with text-only models."),
    ],
)
def test_a_model_that_only_reads_says_so(kind: MediaKind, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_served("lm", looking(kind))
    assert (caught.value.message, caught.value.param) == (message, "messages[1].content[0]")


def test_a_loaded_model_says_what_it_takes() -> None:
    facts = ModelFacts(1, None, 0, 0, "a", "b", media=("image",))
    check_kinds(facts, [showing("image")])
    check_kinds(None, [showing("video")])
    with pytest.raises(InvalidRequest) as caught:
        check_kinds(facts, [showing("image"), showing("audio")])
    assert caught.value.message == "`messages[1].content[0]`: this model takes text, image, and no audio."
