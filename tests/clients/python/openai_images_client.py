"""OpenAI's asynchronous Python SDK, with a model that draws."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
from checks import KEY, run_async
from openai import AsyncOpenAI
from PIL import Image

ASKED: Any = {"model": "gpt-image-1", "prompt": "a red circle at the top left"}


def client(url: str) -> AsyncOpenAI:
    """A client that shows every failure."""
    return AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)


def size_of(file: bytes) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    with Image.open(io.BytesIO(file), formats=["PNG"]) as picture:
        picture.load()
        return picture.size


async def in_base64(url: str) -> None:
    async with client(url) as asking:
        answer = await asking.images.generate(**ASKED, n=2, response_format="b64_json")
    assert [size_of(base64.b64decode(one.b64_json)) for one in answer.data] == [(64, 64)] * 2
    assert [one.url for one in answer.data] == [None] * 2
    assert answer.usage.output_tokens == 32


async def by_url(url: str) -> None:
    async with client(url) as asking, httpx.AsyncClient() as fetching:
        answer = await asking.images.generate(**ASKED, response_format="url")
        fetched = await fetching.get(answer.data[0].url)
    assert fetched.headers["content-type"] == "image/png"
    assert size_of(fetched.content) == (64, 64)


async def streamed_pictures(url: str) -> None:
    async with client(url) as asking:
        events = [event async for event in await asking.images.generate(**ASKED, stream=True, partial_images=2)]
    assert [event.type.removeprefix("image_generation.") for event in events] == [
        "partial_image",
        "partial_image",
        "completed",
    ]
    assert {size_of(base64.b64decode(event.b64_json)) for event in events} == {(64, 64)}


async def edit(url: str) -> None:
    async with client(url) as asking:
        drawn = await asking.images.generate(**ASKED)
        image = ("circle.png", base64.b64decode(drawn.data[0].b64_json))
        changed = await asking.images.edit(image=image, prompt="a blue square on the right", model="gpt-image-1")
    assert size_of(base64.b64decode(changed.data[0].b64_json)) == (64, 64)


if __name__ == "__main__":
    run_async(in_base64, by_url, streamed_pictures, edit)
