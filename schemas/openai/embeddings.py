"""`/v1/embeddings`: what clients send, what they get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media, Remote
from mlx_server.schemas.internal.media import Link, MediaLink, as_url, read_link, to_detail
from mlx_server.schemas.openai.common import Count, TokenId
from mlx_server.schemas.openai.truncation import TruncationFields

MAX_INPUTS = 2048
MAX_TOKEN_IDS = 1 << 20
MAX_PROMPT_CHARS = 1 << 17

# Parameters of other servers that are known and not served, with the values that change nothing (null never does).
HARMLESS: dict[str, tuple[Any, ...]] = {
    "stream": (False,),
    "normalize": (True,),
    "normalized": (True,),
    "use_activation": (True,),
    "add_special_tokens": (True,),
    "embed_dtype": ("float32",),
    "output_dtype": ("float",),
    "embedding_type": ("float",),
    "endianness": ("native", "little"),
    "late_chunking": (False,),
    "task": (),
    "messages": (),
    "priority": (0,),
}

Input = str | Annotated[list[str | TokenId | list[TokenId]], Meta(max_length=MAX_TOKEN_IDS)]


class EmbeddingsRequest(TruncationFields, frozen=True, kw_only=True):
    """The body of a request for embeddings. An input is text or token ids; `input` is one, or a list of either.

    `image_url` is a picture that is embedded together with every input, or a list with one for each.
    """

    input: Input
    model: Annotated[str, Meta(max_length=256)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    user: str | None = None
    input_type: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    prompt_name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT_CHARS)] | None = None
    image_url: Link | Annotated[list[Link], Meta(max_length=MAX_INPUTS)] | None = None

    def to_work(self) -> EmbeddingRequest:
        """The inside type. Raises InvalidRequest."""
        inputs = to_inputs(self.input)
        if self.image_url is not None:
            pictures = to_pictures(self.image_url, len(inputs))
            inputs = [
                msgspec.structs.replace(given, media=(picture,))
                for given, picture in zip(inputs, pictures, strict=True)
            ]
        given = [name for name in ("input_type", "prompt_name", "prompt") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidRequest(f"`{given[0]}` and `{given[1]}` can't be given together.", given[1])
        return EmbeddingRequest(
            inputs=tuple(inputs),
            dimensions=self.dimensions,
            truncation=self.truncation(),
            prompt=self.prompt,
            prompt_name=self.prompt_name,
            input_type=self.input_type,
        )


def to_inputs(given: str | list[str | int | list[int]]) -> list[EmbeddingInput]:
    """One for each embedding. Raises InvalidRequest for an empty, a mixed or too long a list."""
    if isinstance(given, str):
        return [EmbeddingInput(given, "input")]
    if not given:
        raise InvalidRequest("`input` is an empty list: give at least one text, or token ids.", "input")
    kinds = {type(item) for item in given}
    if len(kinds) > 1:
        raise InvalidRequest("`input`: strings, token ids and lists of token ids can't be mixed.", "input")
    if kinds == {int}:
        return [EmbeddingInput(tuple(item for item in given if isinstance(item, int)), "input")]
    if len(given) > MAX_INPUTS:
        raise InvalidRequest(f"`input`: at most {MAX_INPUTS} inputs are allowed, got {len(given)}.", "input")
    return [to_input(item, f"input[{i}]") for i, item in enumerate(given) if not isinstance(item, int)]


def to_input(item: str | list[int], param: str) -> EmbeddingInput:
    """One item of a list. Raises InvalidRequest for no token ids."""
    if item == []:
        raise InvalidRequest(f"`{param}` is an empty list: give at least one token id.", param)
    return EmbeddingInput(item if isinstance(item, str) else tuple(item), param)


def to_pictures(given: Link | Sequence[Link], count: int) -> list[Media]:
    """A picture for each of `count` inputs. Raises InvalidRequest."""
    if isinstance(given, str | MediaLink):
        return [to_picture(given, "image_url")] * count
    if len(given) != count:
        raise InvalidRequest(
            f"`image_url`: a list must have a picture for each of the {count} inputs, got {len(given)}.", "image_url"
        )
    return [to_picture(one, f"image_url[{i}]") for i, one in enumerate(given)]


def to_picture(given: Link, param: str) -> Media:
    """A picture before the text. Raises InvalidRequest."""
    url, detail = read_link(given, param)
    return Media("image", Remote(as_url(url)), 0, param, to_detail(detail, f"{param}.detail"))


class Embedding(msgspec.Struct, frozen=True):
    """One vector: numbers, or the base64 text of little-endian 32-bit floats."""

    object: Literal["embedding"]
    embedding: tuple[float, ...] | str
    index: int


class PromptUsage(msgspec.Struct, frozen=True):
    """Token counts of what was only read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(msgspec.Struct, frozen=True):
    """A vector for each input, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: PromptUsage


decoder = msgspec.json.Decoder(EmbeddingsRequest)
