"""A model that hears: what it says to sounds, and which of them it is not asked to hear again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from PIL import Image
from support.engines import Player
from support.sounds import wav
from support.tiny.sight import Sight, heard, said
from support.tiny.vision_models import make_vision_model

from mlx_server.schemas.internal.generation import Message
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.vision.reference_trace import REPORTED, TOKENS, difference, trace_alone
from mlx_server.workers.engine.vision.trial import play

# mlx-vlm's own settings for the processor's filters are beside the point.
pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore:At least one mel filter")]

LOW, HIGH, LONG = wav(0.5, hertz=220), wav(0.5, hertz=1760), wav(1.2, hertz=500)
PICTURE = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
SYSTEM = Message("system", "You answer questions about what you see and hear.")


@pytest.fixture(scope="module")
def ear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sight]:
    """A tiny random model that sees and hears."""
    model = Sight(make_vision_model(tmp_path_factory.mktemp("gemma4"), "gemma4"))
    yield model
    model.close()


def _between(text: str, *parts: Message) -> Message:
    """One message with the media of several, in order."""
    return Message("user", text, media=tuple(one for part in parts for one in part.media))


def test_rows_that_join_one_another_say_what_each_says_alone(ear: Sight) -> None:
    asked = [
        (heard("What is this?", LOW),),
        (said("Hello!"),),
        (heard("What is this?", HIGH),),
        (heard("What is this?", LOW), said("a tone", role="assistant"), heard("And this?", LONG)),
        (_between("Do they fit?", said("", PICTURE), heard("", LONG)),),
        (_between("Do they fit?", heard("", HIGH), said("", PICTURE), heard("", LOW)),),
        (said("What is this?", PICTURE),),
    ]
    player = Player(ear.engine(rows=4))
    for n, messages in enumerate(asked):
        player.add(ear.sequence(n, *messages, max_tokens=6 + n))
        for _ in range(n % 3):
            player.step()
    outcomes = player.run()
    answers = [outcomes[n, 0].tokens for n in range(len(asked))]
    assert answers == [ear.alone(*messages, max_tokens=6 + n) for n, messages in enumerate(asked)]


def test_what_is_heard_counts_and_is_the_same_in_a_batch(ear: Sight) -> None:
    asked = [(heard("What is this?", sound),) for sound in (LOW, HIGH, LONG)]
    sequences = [ear.sequence(n, *messages, max_tokens=TOKENS, logprobs=REPORTED) for n, messages in enumerate(asked)]
    alone = [trace_alone(ear.model, sequence) for sequence in sequences]
    traces = play(ear.engine(), sequences)
    assert max(difference(*pair) for pair in zip(alone, traces, strict=True)) < 1e-3
    assert difference(traces[0], traces[1]) > 1e-2


def test_sounds_stand_where_they_were_put(ear: Sight) -> None:
    [sound] = heard("", LOW).media
    media = tuple(msgspec.structs.replace(sound, at=at) for at in (0, 3))
    sequence = ear.sequence(0, Message("user", "abcdef", media=media))
    text = "".join(ear.prompts.pieces(sequence.prompt)).replace("<|video_pad|>", "")
    mark = "<|vision_start|><|vision_end|>"
    assert f"{mark}abc{mark}def" in text


def _run(ear: Sight, engine: Any, number: int, *messages: Message) -> Sequence:
    sequence = ear.sequence(number, *messages, max_tokens=6)
    player = Player(engine)
    player.add(sequence)
    assert player.run()[number, 0].tokens == ear.alone(*messages, max_tokens=6)
    return sequence


def test_a_sound_that_was_heard_in_a_prompt_that_begins_alike_is_not_heard_again(ear: Sight) -> None:
    engine = ear.engine(prefixes=PrefixStore(1 << 30))
    one = _run(ear, engine, 0, SYSTEM, heard("What is this?", LOW))
    assert (one.cached_tokens, one.encoded_media, one.cached_media) == (0, 1, 0)
    again = _run(ear, engine, 1, SYSTEM, heard("What is this?", LOW))
    assert again.cached_tokens == len(again.prompt) - 1
    assert (again.encoded_media, again.cached_media) == (0, 1)
    more = (said("a", role="assistant"), heard("And this?", HIGH))
    two = _run(ear, engine, 2, SYSTEM, heard("What is this?", LOW), *more)
    assert two.cached_tokens >= len(one.prompt) - 4
    assert (two.encoded_media, two.cached_media) == (1, 1)


def test_another_sound_at_the_same_place_is_not_taken_for_the_first(ear: Sight) -> None:
    engine = ear.engine(prefixes=PrefixStore(1 << 30))
    one = _run(ear, engine, 0, SYSTEM, heard("What is this?", LOW))
    other = _run(ear, engine, 1, SYSTEM, heard("What is this?", HIGH))
    assert one.prompt == other.prompt
    assert other.media is not None
    [sound] = other.media.places
    assert (sound.kind, other.cached_tokens, other.encoded_media) == ("audio", sound.start, 1)
