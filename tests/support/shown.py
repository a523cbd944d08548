"""Requests that show pictures to a model in the test's own process, and what it makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.computing import Computing
from support.pictures import halves, picture_file, plain

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media

TEXTS = ("the cat", "a big red bird sees the small blue fish", "no", "a dog ran on the log")
RED, HALVES, GREY = plain("red", (64, 64)), halves(), plain((90, 90, 90), (120, 40))


def shown(*inputs: tuple[Any, ...], **how: Any) -> EmbeddingRequest:
    """Each input is a text and its pictures."""
    return EmbeddingRequest(tuple(given(number, *one) for number, one in enumerate(inputs)), **how)


def given(number: int, text: str | tuple[int, ...], *pictures: Image.Image) -> EmbeddingInput:
    """One of a request's inputs."""
    param = f"input[{number}]"
    media = (Media("image", picture_file(picture), 0, f"{param}.image") for picture in pictures)
    return EmbeddingInput(text, param, tuple(media))


def vectors_of(computing: Computing, *inputs: tuple[Any, ...], **how: Any) -> npt.NDArray[np.float32]:
    """The inputs' vectors, asked for together."""
    return computing.ask(shown(*inputs, **how))[0].vectors


def refusal_of(computing: Computing, request: Any) -> InvalidRequest:
    """Why a request is not taken."""
    with pytest.raises(InvalidRequest) as caught:
        computing.prepare(1, request)
    return caught.value
