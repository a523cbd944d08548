"""What a handler does with sounds: it finds out whether its model hears, and refuses what it would not hear."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.sounds import wav
from support.tiny.sight import heard, said, shown
from support.tiny.vision_models import make_vision_model

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Message, ToolUse
from mlx_server.schemas.internal.messages import Load, ModelFacts
from mlx_server.workers.handlers.vlm import VisionHandler

# mlx-vlm's own settings for the processor's filters are beside the point.
pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore:At least one mel filter")]


def _load(folder: Path) -> tuple[VisionHandler, ModelFacts]:
    handler = VisionHandler()
    return handler, handler.load(Load(str(folder), "vlm", 4, 32, "/dev/null/nowhere"), lambda _: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vision_model(tmp_path_factory.mktemp("gemma4"), "gemma4")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Iterator[tuple[VisionHandler, ModelFacts]]:
    handler, facts = _load(folder)
    yield handler, facts
    handler.close()


@pytest.fixture
def handler(loaded: tuple[VisionHandler, ModelFacts]) -> VisionHandler:
    return loaded[0]


def _refusal(handler: VisionHandler, *messages: Message) -> InvalidRequest:
    request = GenerationRequest((ChatPrompt(messages),), 4)
    with pytest.raises(InvalidRequest) as caught:
        handler.prepare(1, shown(request, handler.decode))
    return caught.value


def test_a_model_that_hears_says_so(loaded: tuple[VisionHandler, ModelFacts]) -> None:
    _, facts = loaded
    assert (facts.media, facts.rows) == (("image", "audio"), 4)
    assert facts.notes == ("takes no films: `messages`: the chat template has no place for films.",)


def test_a_sound_takes_tokens_by_its_length(handler: VisionHandler) -> None:
    def tokens(*files: bytes) -> int:
        prompt = ChatPrompt((heard("What is this?", *files),))
        return len(handler.tokens(shown(prompt, handler.decode), ToolUse()))

    assert tokens(wav(2.0)) - tokens(wav(1.0)) == 25
    assert tokens(wav(2.0), wav(1.0)) == tokens(wav(2.0), wav(2.0)), "padding would be taken for sound"


def test_what_the_model_would_not_hear_is_refused(handler: VisionHandler) -> None:
    assert handler.prepare(1, shown(GenerationRequest((ChatPrompt((heard("", wav(30.0)),)),), 4), handler.decode))
    refused = _refusal(handler, heard("What is this?", wav(30.2)))
    assert "no more than 30 seconds" in refused.message
    assert refused.param == "messages[0].content[0]"


def test_a_file_that_is_no_sound_is_refused(handler: VisionHandler) -> None:
    assert "not a sound this server can read" in _refusal(handler, heard("What is this?", b"nothing")).message


def test_a_marker_in_a_text_is_not_taken_for_a_sound(handler: VisionHandler) -> None:
    refused = _refusal(handler, heard("Is <|video_pad|> a sound?", wav(0.5)))
    assert "marks a sound for this model and can't be text" in refused.message


@pytest.mark.parametrize("how", [{"audio_config": None}, {"audio_token_id": 511}])
def test_a_model_that_makes_nothing_of_sounds_takes_none(tmp_path: Path, how: dict[str, Any]) -> None:
    folder = make_vision_model(tmp_path, "gemma4")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | how))
    handler, facts = _load(folder)
    assert facts.media == ("image",)
    assert any("takes no sounds: " in note for note in facts.notes)
    assert "takes no audio input" in _refusal(handler, heard("What is this?", wav(0.5))).message
    handler.close()


def test_a_second_sound_is_refused_where_a_processor_would_leave_it_out(
    handler: VisionHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler._inputs._processor, "supports_multiple_audio", False, raising=False)
    one, two = heard("What is this?", wav(0.5)), heard("And this?", wav(0.5))
    refused = _refusal(handler, one, said("a tone", role="assistant"), two)
    assert "hears one sound in a conversation" in refused.message
