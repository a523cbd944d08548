"""Which voice a client means."""

from __future__ import annotations

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.speak.voices import OPENAI, choose

VOICES = ("af_heart", "af_nova", "am_onyx")


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(None, "af_heart"), ("am_onyx", "am_onyx"), ("onyx", "am_onyx"), ("nova", "af_nova"), ("alloy", "af_heart")],
)
def test_a_voice_by_its_name_or_openais(wanted: str | None, chosen: str) -> None:
    assert choose(wanted, VOICES) == chosen


def test_every_voice_of_openais_is_one_of_the_models() -> None:
    assert {choose(name, VOICES) for name in OPENAI} == set(VOICES)
    assert {choose(name, ()) for name in OPENAI} == {None}


@pytest.mark.parametrize("wanted", ["batman", "", "../../etc/passwd", "https://example.com/voice.wav", "AF_HEART"])
def test_an_unknown_voice_is_refused_with_the_list(wanted: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose(wanted, VOICES)
    assert caught.value.param == "voice"
    assert "af_heart, af_nova, am_onyx" in caught.value.message
    with pytest.raises(InvalidRequest, match="one voice"):
        choose(wanted, ())
