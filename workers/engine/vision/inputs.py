"""From a prompt's text and media to token ids and the arrays that the model takes. Tokenizer's thread only."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx_vlm.prompt_utils import get_message_json
from mlx_vlm.utils import VideoMetadata, prepare_inputs

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media, MediaKind, Message
from mlx_server.workers.engine.media.films import Film
from mlx_server.workers.engine.media.media import DecodedMedia, check_kinds, evened
from mlx_server.workers.engine.prompt.templates.content import Content
from mlx_server.workers.engine.vision.placeholders import Place, Placeholders, placed
from mlx_server.workers.errors import one_line

TEXT_INPUTS = frozenset({"input_ids", "attention_mask"})
SAMPLE_RATE = 16_000
"""What mlx-vlm takes for a processor that does not say at which rate it wants its sounds."""

NAMES: dict[MediaKind, str] = {"image": "a picture", "audio": "a sound", "video": "a film"}


@dataclass(eq=False, slots=True)
class MediaInputs:
    """What a processor made of a prompt's pictures and sounds: `arrays` by the names that the model gives them,
    evaluated. `count` is how many there are, `sounds` how many of them are heard.

    They have `places` of their own where these could be told apart; else one is for all, and takes the whole prompt.
    """

    arrays: dict[str, Any] = field(repr=False)
    count: int
    places: tuple[Place, ...]
    sounds: int = 0

    @property
    def told_apart(self) -> bool:
        """Each one's place is known."""
        return len(self.places) == self.count


class InputReader:
    """A model's processor: it knows how many tokens a picture takes, and which pixels the model gets to see.

    `kinds` is what it takes, as far as that can be told without the model. No sound is longer than `longest_s`, and all
    sounds of a conversation are equally long if `evens_sounds`.
    """

    def __init__(self, processor: Any, model_config: Any, placeholders: Placeholders) -> None:
        self._processor = processor
        self._model_type = str(model_config.model_type)
        self._image_index = getattr(model_config, "image_token_index", None)
        self._placeholders = placeholders
        self._markers: dict[MediaKind, str | None] = {
            "image": getattr(processor, "image_token", None),
            "audio": getattr(processor, "audio_token", None),
            "video": getattr(processor, "video_token", None),
        }
        extractor = getattr(processor, "feature_extractor", None)
        self.sample_rate = int(getattr(extractor, "sampling_rate", SAMPLE_RATE))
        self.longest_s: float | None = None
        self.evens_sounds = False
        sees: tuple[MediaKind, ...] = ("image",) if getattr(processor, "image_processor", None) is not None else ()
        hears: tuple[MediaKind, ...] = ("audio",) if takes(processor, "audio", "audios") else ()
        films: tuple[MediaKind, ...] = ("video",) if takes(processor, "videos") else ()
        self.kinds: tuple[MediaKind, ...] = (*sees, *hears, *films)

    def check(self, media: Sequence[Media]) -> None:
        """Raises InvalidRequest for a kind that the model does not take, and for a second sound where it hears one."""
        check_kinds(media, self.kinds)
        sounds = [one for one in media if one.kind == "audio"]
        if len(sounds) > 1 and not getattr(self._processor, "supports_multiple_audio", False):
            param = sounds[1].param
            raise InvalidRequest(f"`{param}`: this model hears one sound in a conversation.", param)

    def marked(self, message: Message) -> Content:
        """A message with its pictures' and sounds' marks where mlx-vlm puts them for this model. Raises
        InvalidRequest."""
        counts = Counter(one.kind for one in message.media)
        for one in message.media if counts["video"] else ():
            raise InvalidRequest(f"`{one.param}`: the chat template has no place for films.", one.param)
        try:
            said = get_message_json(
                self._model_type,
                message.content,
                message.role,
                num_images=counts["image"],
                num_audios=counts["audio"],
            )
        except ValueError as error:
            param = message.media[0].param
            raise InvalidRequest(f"`{param}`: {one_line(error)}", param) from None
        content: Content = said if isinstance(said, str) else said["content"]
        return content

    def read(self, text: str, media: Sequence[Media], *, special: bool, param: str) -> tuple[list[int], MediaInputs]:
        """The token ids of a rendered prompt with its media, which are decoded, and their arrays. Raises
        InvalidRequest.

        `special`: the tokenizer adds the tokens that begin and end its texts. `param` is what the prompt came as.
        """
        shown = [one for one in media if isinstance(one, DecodedMedia)]
        assert len(shown) == len(media)
        self._check_markers(text, shown, param)
        self._check_lengths(shown)
        shown = evened(shown) if self.evens_sounds else shown
        films: list[Film] = contents(shown, "video") or []
        try:
            inputs = prepare_inputs(
                self._processor,
                images=contents(shown, "image"),
                audio=contents(shown, "audio"),
                videos=[film.frames for film in films] or None,
                prompts=text,
                image_token_index=self._image_index,
                add_special_tokens=special,
                **({"video_metadata": [metadata(film) for film in films]} if films else {}),
            )
            mx.eval([value for value in inputs.values() if isinstance(value, mx.array)])
        except Exception as error:  # noqa: BLE001 - a processor is a model's own code and may raise anything
            raise InvalidRequest(f"`{media[0].param}`: {one_line(error)}", media[0].param) from None
        tokens: list[int] = inputs["input_ids"].reshape(-1).tolist()
        self._check_placeholders(tokens, shown, param)
        arrays = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS and value is not None}
        places = placed(tokens, self._placeholders, [(one.kind, one.digest) for one in shown])
        return tokens, MediaInputs(arrays, len(shown), places, sum(one.kind == "audio" for one in shown))

    def _check_markers(self, text: str, shown: Sequence[Media], param: str) -> None:
        for kind, marker in self._markers.items():
            if marker and text.count(marker) not in (0, sum(one.kind == kind for one in shown)):
                raise no_text(marker, kind, param)

    def _check_placeholders(self, tokens: Sequence[int], shown: Sequence[Media], param: str) -> None:
        """No token stands for features of a kind that is not shown: models look for these features all the same."""
        kinds = {one.kind for one in shown}
        if "video" in kinds:  # some models take a film as pictures
            kinds.add("image")
        stray = next((id_ for id_ in tokens if self._placeholders.get(id_, shown[0].kind) not in kinds), None)
        if stray is not None:
            name = self._processor.tokenizer.convert_ids_to_tokens(stray)
            raise no_text(str(name), self._placeholders[stray], param)

    def _check_lengths(self, shown: Sequence[DecodedMedia]) -> None:
        most = math.inf if self.longest_s is None else self.longest_s * self.sample_rate
        for one in shown:
            if one.kind == "audio" and one.content.size > most:
                message = f"`{one.param}`: this model hears no more than {self.longest_s:g} seconds of a sound."
                raise InvalidRequest(message, one.param)


def no_text(marker: str, kind: MediaKind, param: str) -> InvalidRequest:
    """Why a text may not have a marker of media in it."""
    return InvalidRequest(f"{marker!r} marks {NAMES[kind]} for this model and can't be text.", param)


def takes(processor: Any, *names: str) -> bool:
    """Whether mlx-vlm would give it something by one of these names; what comes of that only a trial can tell."""
    parameters = inspect.signature(getattr(processor, "process", processor)).parameters
    return any(name in parameters for name in names)


def metadata(film: Film) -> VideoMetadata:
    """What processors are told of a film."""
    *_, height, width = film.frames.shape
    return VideoMetadata(film.total, film.fps, film.indices, width, height, film.total / film.fps)


def contents(shown: Sequence[DecodedMedia], kind: MediaKind) -> list[Any] | None:
    """What the files of one kind hold; None where there are none."""
    return [one.content for one in shown if one.kind == kind] or None
