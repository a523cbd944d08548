"""From a prompt's text and pictures to token ids and the arrays that the model takes. Tokenizer's thread only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import mlx.core as mx
from mlx_vlm.prompt_utils import get_message_json
from mlx_vlm.utils import prepare_inputs

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Media, MediaKind, Message
from mlx_server.workers.engine.media import DecodedMedia
from mlx_server.workers.engine.resolve import one_line
from mlx_server.workers.engine.templates.content import Content

TEXT_INPUTS = frozenset({"input_ids", "attention_mask"})


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's place among a prompt's tokens, from `start` to before `end`, and what it is known by."""

    start: int
    end: int
    digest: bytes


@dataclass(eq=False, slots=True)
class MediaInputs:
    """What a processor made of a prompt's pictures: `arrays` by the names that the model gives them, evaluated.

    `pictures` have their places where these could be told apart; else one stands for all, and takes the whole prompt.
    """

    arrays: dict[str, Any] = field(repr=False)
    count: int
    pictures: tuple[Picture, ...]

    @property
    def told_apart(self) -> bool:
        """Each picture's place is known."""
        return len(self.pictures) == self.count


class InputReader:
    """A model's processor: it knows how many tokens a picture takes, and which pixels the model gets to see."""

    def __init__(self, processor: Any, model_config: Any, placeholders: Collection[int]) -> None:
        """`placeholders` are the ids that stand for pictures' features."""
        self._processor = processor
        self._model_type = str(model_config.model_type)
        self._image_index = getattr(model_config, "image_token_index", None)
        self._placeholders = frozenset(placeholders)
        self._marker: str | None = getattr(processor, "image_token", None)
        sees = getattr(processor, "image_processor", None) is not None
        self.sample_rate = 16_000
        self.kinds: tuple[MediaKind, ...] = ("image",) if sees else ()

    def check(self, media: Sequence[Media]) -> None:
        """Raises InvalidRequest for a kind that the model does not take."""
        for one in media:
            if one.kind not in self.kinds:
                raise InvalidRequest(f"`{one.param}`: this model takes no {one.kind} input.", one.param)

    def marked(self, message: Message) -> Content:
        """A message with its pictures' marks where mlx-vlm puts them for this model. Raises InvalidRequest."""
        try:
            said = get_message_json(self._model_type, message.content, message.role, num_images=len(message.media))
        except ValueError as error:
            param = message.media[0].param
            raise InvalidRequest(f"`{param}`: {one_line(error)}", param) from None
        content: Content = said if isinstance(said, str) else said["content"]
        return content

    def read(self, text: str, media: Sequence[Media], *, special: bool, param: str) -> tuple[list[int], MediaInputs]:
        """The token ids of a rendered prompt with its pictures, and the pictures' arrays. Raises InvalidRequest.

        `special`: the tokenizer adds the tokens that begin and end its texts. `param` is what the prompt came as.
        """
        marker = self._marker
        if marker and text.count(marker) not in (0, len(media)):
            raise InvalidRequest(f"{marker!r} marks a picture for this model and can't be text.", param)
        images = [content_of(one) for one in media]
        try:
            inputs = prepare_inputs(
                self._processor,
                images=images,
                prompts=text,
                image_token_index=self._image_index,
                add_special_tokens=special,
            )
            mx.eval([value for value in inputs.values() if isinstance(value, mx.array)])
        except Exception as error:  # noqa: BLE001 - a processor is a model's own code and may raise anything
            raise InvalidRequest(f"`{media[0].param}`: {one_line(error)}", media[0].param) from None
        tokens: list[int] = inputs["input_ids"].reshape(-1).tolist()
        arrays = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS and value is not None}
        digests = [one.digest for one in media if isinstance(one, DecodedMedia)]
        return tokens, MediaInputs(arrays, len(media), placed(tokens, self._placeholders, digests))


def content_of(media: Media) -> Any:
    """What a file holds."""
    assert isinstance(media, DecodedMedia)
    return media.content


def placed(tokens: list[int], placeholders: Collection[int], digests: list[bytes]) -> tuple[Picture, ...]:
    """Where the pictures are: one run of placeholders each, or one picture from the first placeholder to the last."""
    runs = placeholder_runs(tokens, placeholders)
    if len(digests) == 1 and runs:
        runs = [(runs[0][0], runs[-1][1])]
    if len(runs) == len(digests):
        return tuple(Picture(*run, one) for run, one in zip(runs, digests, strict=True))
    return (Picture(0, len(tokens), b"".join(digests)),)


def placeholder_runs(tokens: list[int], placeholders: Collection[int]) -> list[tuple[int, int]]:
    """Beginnings and ends of the runs of placeholders."""
    runs, at = [], 0
    for stands_for_picture, run in groupby(tokens, placeholders.__contains__):
        end = at + sum(1 for _ in run)
        if stands_for_picture:
            runs.append((at, end))
        at = end
    return runs
