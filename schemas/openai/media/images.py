"""`/v1/images/generations` and `/v1/images/edits`: what clients send, what they get."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.picture import PictureFormat, PictureRequest
from mlx_server.schemas.parsing.forms import FormDecoder

HARMLESS: dict[str, tuple[Any, ...]] = {
    "moderation": ("auto", "low"),
    "markup": (),
    "complexity": (),
    "svg": (),
    "frame_count": (),
    "frame_duration_ms": (),
}
"""Parameters that are known and not served, with the values that change nothing."""

WITHOUT_EFFECT: dict[str, tuple[str | None, ...]] = {"quality": (None, "auto", "standard"), "style": (None,)}
"""Fields whose other values are taken and named in `X-Ignored-Fields`. How well a picture is drawn is a matter of
`steps`, and a style one of the prompt."""

SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
MOST_SEED = 2**63 - 1


ResponseFormat = Literal["url", "b64_json"]


class PictureOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of pictures that are drawn or changed.

    `seed` draws the same picture again, `steps` are of denoising, `guidance` is how closely the prompt is followed and
    `negative_prompt` what the picture shall not show: models take their own where nothing is said. Backgrounds are
    opaque.
    """

    prompt: Annotated[str, Meta(min_length=1, max_length=32_000)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    size: Annotated[str, Meta(max_length=16)] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: PictureFormat | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    seed: Annotated[int, Meta(ge=0, le=MOST_SEED)] | None = None
    steps: Annotated[int, Meta(ge=1, le=1000)] | None = None
    guidance: Annotated[float, Meta(ge=0, le=100)] | None = None
    negative_prompt: Annotated[str, Meta(max_length=32_000)] | None = None
    quality: Literal["auto", "standard", "hd", "low", "medium", "high", "xhigh", "max"] | None = None
    style: Literal["vivid", "natural"] | None = None
    user: str | None = None
    safety_identifier: str | None = None

    @property
    def ignored(self) -> list[str]:
        """Fields that change nothing."""
        return [name for name, usual in WITHOUT_EFFECT.items() if getattr(self, name) not in usual]

    @property
    def format(self) -> PictureFormat:
        """What the files are."""
        return self.output_format or "png"

    def to_work(self, seed: int, image: str | None = None, mask: str | None = None) -> PictureRequest:
        """The inside type, drawn from `seed` where the client names none; `image` and `mask` are files' paths. Raises
        InvalidRequest for fields that don't go together."""
        if self.output_compression is not None and self.format == "png":
            raise InvalidRequest(
                "`output_compression` is for `output_format` 'jpeg' or 'webp': a png loses nothing.",
                "output_compression",
            )
        if self.partial_images and not self.stream:
            raise InvalidRequest("`partial_images` needs `stream`: they come before the picture.", "partial_images")
        if self.stream and self.response_format == "url":
            raise InvalidRequest("`response_format`: a stream holds pictures as 'b64_json' only.", "response_format")
        width, height = sides(self.size)
        return PictureRequest(
            prompt=self.prompt,
            seed=seed if self.seed is None else self.seed,
            count=self.n or 1,
            width=width,
            height=height,
            steps=self.steps,
            guidance=self.guidance,
            negative_prompt=self.negative_prompt,
            format=self.format,
            quality=100 if self.output_compression is None else self.output_compression,
            partials=self.partial_images or 0,
            transparent=self.background == "transparent",
            image=image,
            mask=mask,
        )


class ImageRequest(PictureOptions, frozen=True, kw_only=True):
    """The body of a request for new pictures."""


class ImageEditForm(PictureOptions, frozen=True, kw_only=True):
    """The fields of a form beside its files. `input_fidelity` may only be `low`: a changed picture is a new one that
    begins with the old one's outlines."""

    input_fidelity: Literal["low"] | None = None


def sides(size: str | None) -> tuple[int | None, int | None]:
    """Width and height in pixels, None where the model chooses. Raises InvalidRequest."""
    if size is None or size == "auto":
        return None, None
    found = SIZE.fullmatch(size)
    if found is None:
        raise InvalidRequest("`size` has to be 'auto' or WIDTHxHEIGHT in pixels, such as '1024x1024'.", "size")
    return int(found[1]), int(found[2])


class InputDetails(msgspec.Struct, frozen=True):
    """What a prompt was made of, in tokens. A picture to change has none: it is where drawing begins."""

    text_tokens: int
    image_tokens: int = 0


class ImageUsage(msgspec.Struct, frozen=True):
    """Tokens of the prompt, with the model's template, and of the pictures, as the model has them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails


class Image(msgspec.Struct, frozen=True):
    """The seed that draws a picture again, and its file: in base64, at an address that ends after an hour, or both."""

    seed: int
    url: str | msgspec.UnsetType = msgspec.UNSET
    b64_json: str | msgspec.UnsetType = msgspec.UNSET


class ImagesResponse(msgspec.Struct, frozen=True):
    """The answer in one piece; `size` is WIDTHxHEIGHT."""

    created: int
    data: list[Image]
    size: str
    output_format: PictureFormat
    usage: ImageUsage
    background: Literal["opaque"] = "opaque"
    quality: Literal["auto"] = "auto"


class PictureEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What every event of a stream says of a picture; `index` counts those of the request."""

    b64_json: str
    created_at: int
    size: str
    output_format: PictureFormat
    index: int
    background: Literal["opaque"] = "opaque"
    quality: Literal["auto"] = "auto"


class PartialPictureEvent(PictureEvent, frozen=True, kw_only=True):
    """An unfinished picture; `partial_image_index` counts those that come before each finished one."""

    partial_image_index: int


class CompletedPictureEvent(PictureEvent, frozen=True, kw_only=True):
    """A finished picture; the last one's event has the `usage` of all."""

    seed: int
    usage: ImageUsage | msgspec.UnsetType = msgspec.UNSET


class ImagePartial(PartialPictureEvent, frozen=True, tag="image_generation.partial_image", tag_field="type"):
    """Of a new picture."""


class ImageCompleted(CompletedPictureEvent, frozen=True, tag="image_generation.completed", tag_field="type"):
    """Of a new picture."""


class EditPartial(PartialPictureEvent, frozen=True, tag="image_edit.partial_image", tag_field="type"):
    """Of a changed picture."""


class EditCompleted(CompletedPictureEvent, frozen=True, tag="image_edit.completed", tag_field="type"):
    """Of a changed picture."""


ImageEvent = ImagePartial | ImageCompleted
EditEvent = EditPartial | EditCompleted

decoder = msgspec.json.Decoder(ImageRequest)
edit_decoder = FormDecoder(ImageEditForm, ("image", "mask"), harmless=HARMLESS)
