"""What is taken for a time of what families say that hear and are no Whisper."""

from types import SimpleNamespace

from mlx_audio.stt.models.base import STTOutput

from mlx_server.workers.engine.hear.other_families import parts_of


def test_time_that_computing_took_is_no_time_in_the_recording() -> None:
    said = {"start": 0.0, "end": 1.25, "text": "Hi"}
    assert parts_of(STTOutput(text="Hi", segments=[said], total_time=1.25)) == [("Hi", 0.0, None)]
    assert parts_of(STTOutput(text="Hi", segments=[said], total_time=0.4)) == [("Hi", 0.0, 1.25)]
    assert parts_of(SimpleNamespace(text="Hi")) == [("Hi", None, None)]
