"""Pictures over HTTP, drawn by the tiny model that was trained to: what is asked for is there to be seen."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from drawing.scenes import BACKGROUND
from PIL import Image, ImageDraw
from shapes.draw import RGB
from support.running.servers import Server, serving

pytestmark = pytest.mark.model

MODEL = Path(__file__).parents[2] / "drawing" / "model"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        "--model-path", MODEL, "--model-name", "painter", "--max-concurrency", "2", "--max-media-mb", "1"
    ) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def picture_of(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    return Image.open(BytesIO(base64.b64decode(b64_json)))


def colour_at(picture: Image.Image, x: float, y: float) -> str:
    """The colour that is nearest to a place, in fractions of the sides."""
    pixel = np.array(picture.convert("RGB").getpixel((round(x * picture.width), round(y * picture.height))))
    named = {**RGB, "nothing": BACKGROUND}
    return min(named, key=lambda name: int(np.abs(pixel - np.array(named[name])).sum()))


def file_of(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_a_picture_shows_what_its_prompt_says(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="painter", prompt="a red circle at the top left", extra_body={"seed": 1})
    assert answer.data is not None
    [image] = answer.data
    picture = picture_of(image.b64_json)
    assert (picture.format, picture.size) == ("PNG", (64, 64))
    assert colour_at(picture, 0.27, 0.27) == "red"
    assert colour_at(picture, 0.73, 0.73) == "nothing"
    assert (answer.size, answer.output_format, answer.background) == ("64x64", "png", "opaque")
    assert answer.usage is not None
    assert answer.usage.output_tokens == 16
    assert answer.usage.input_tokens > 5


def test_a_seed_draws_the_same_again_and_each_picture_has_its_own(server: Server) -> None:
    def drawn(**more: Any) -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = server.post(
            "/v1/images/generations", {"prompt": "green square, left", **more}
        ).json()["data"]
        return data

    three = drawn(n=3, seed=7)
    assert [one["seed"] for one in three] == [7, 8, 9]
    assert len({one["b64_json"] for one in three}) == 3
    [alone] = drawn(seed=8)
    again, first = (np.asarray(picture_of(one["b64_json"]), int) for one in (alone, three[1]))
    assert np.abs(again - first).max() <= 1
    [unseeded] = drawn()
    [repeated] = drawn(seed=unseeded["seed"])
    assert repeated["b64_json"] == unseeded["b64_json"]


def test_pictures_can_be_of_other_formats_and_sizes(server: Server) -> None:
    sizes = {}
    for quality in (20, 95):
        body = {"prompt": "blue circle, right", "seed": 3, "size": "96x64", "output_format": "jpeg"}
        answer = server.post("/v1/images/generations", {**body, "output_compression": quality}).json()
        picture = picture_of(answer["data"][0]["b64_json"])
        assert (picture.format, picture.size, answer["size"]) == ("JPEG", (96, 64), "96x64")
        sizes[quality] = len(answer["data"][0]["b64_json"])
    assert sizes[20] < sizes[95]


def test_unfinished_pictures_come_before_each_finished_one(client: openai.OpenAI) -> None:
    events: list[Any] = list(
        client.images.generate(prompt="a purple triangle at the bottom right", stream=True, partial_images=3)
    )
    assert [event.type for event in events] == 3 * ["image_generation.partial_image"] + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:-1]] == [0, 1, 2]
    assert all(picture_of(event.b64_json).size == (64, 64) for event in events)
    assert colour_at(picture_of(events[-1].b64_json), 0.73, 0.76) == "purple"
    assert events[-1].usage.output_tokens == 16


def test_all_pictures_of_a_stream_come(server: Server) -> None:
    body = {"prompt": "red square, top", "n": 2, "stream": True, "seed": 1}
    lines = server.post("/v1/images/generations", body).text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert [(event["type"], event["index"], event["seed"]) for event in events] == [
        ("image_generation.completed", 0, 1),
        ("image_generation.completed", 1, 2),
    ]
    assert ["usage" in event for event in events] == [False, True]


def test_requests_take_turns(server: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        bodies = [{"prompt": f"{colour} circle, top left", "seed": 1} for colour in ("red", "blue")]
        answers = list(pool.map(lambda body: server.post("/v1/images/generations", body).json(), bodies))
    assert [colour_at(picture_of(one["data"][0]["b64_json"]), 0.27, 0.27) for one in answers] == ["red", "blue"]


def test_who_leaves_frees_the_place(server: Server) -> None:
    body = {"prompt": "red circle, left", "steps": 200, "size": "128x128", "stream": True, "partial_images": 3}
    with (
        httpx.Client(timeout=30) as client,
        client.stream("POST", f"{server.url}/images/generations", json=body) as answer,
    ):
        parts = answer.iter_bytes()  # whose end hangs up
        next(parts)
        server.wait_stats(running_requests=1)
    server.wait_stats(running_requests=0, cancelled=1)


def test_a_masks_rest_keeps_its_pixels(client: openai.OpenAI) -> None:
    source = Image.new("RGB", (64, 64), BACKGROUND)
    ImageDraw.Draw(source).ellipse((4, 4, 28, 28), fill=RGB["red"])
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (32, 0, 64, 64))
    answer = client.images.edit(
        image=("a.png", file_of(source)), mask=("m.png", file_of(mask)), prompt="a blue square on the right"
    )
    assert answer.data is not None
    picture = np.asarray(picture_of(answer.data[0].b64_json))
    assert (picture[:, :32] == np.asarray(source)[:, :32]).all()
    assert (picture[:, 32:] != np.asarray(source)[:, 32:]).any()


def test_a_changed_picture_has_the_size_and_the_outlines_of_its_source(client: openai.OpenAI) -> None:
    source = Image.new("RGB", (70, 70), BACKGROUND)
    ImageDraw.Draw(source).ellipse((5, 5, 33, 33), fill=RGB["red"])
    events: list[Any] = list(
        client.images.edit(
            image=[("a.png", file_of(source))], prompt="a red circle at the top left", stream=True, partial_images=1
        )
    )
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    picture = picture_of(events[-1].b64_json)
    assert picture.size == (64, 64)
    assert colour_at(picture, 0.27, 0.27) == "red"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "word " * 600}, "prompt"),
        ({"n": 11}, "n"),
        ({"size": "large"}, "size"),
        ({"size": "65x64"}, "size"),
        ({"size": "16x16"}, "size"),
        ({"steps": 1}, "steps"),
        ({"guidance": 5}, "guidance"),
        ({"negative_prompt": "blue"}, "negative_prompt"),
        ({"background": "transparent"}, "background"),
        ({"quality": "best"}, "quality"),
        ({"style": "cubist"}, "style"),
        ({"response_format": "url", "stream": True}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"partial_images": 1}, "partial_images"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_can_not_be_is_refused_by_name(server: Server, body: dict[str, Any], param: str) -> None:
    answer = server.post("/v1/images/generations", {"prompt": "red circle, left", **body} if body else body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("files", "fields", "param"),
    [
        ({}, {"prompt": "x"}, "image"),
        ({"image": b""}, {"prompt": "x"}, "image"),
        ({"image": b"no picture"}, {"prompt": "x"}, "image"),
        ({"image": bytes((1 << 20) + 1)}, {"prompt": "x"}, "image"),
        ({"image": file_of(Image.new("RGB", (64, 64)))}, {}, "prompt"),
        ({"image": file_of(Image.new("RGB", (64, 64)))}, {"prompt": "x", "quality": "best"}, "quality"),
        ({"image": file_of(Image.new("RGB", (64, 64)))}, {"prompt": "x", "input_fidelity": "high"}, "input_fidelity"),
        (
            {"image": file_of(Image.new("RGB", (64, 64))), "mask": file_of(Image.new("RGBA", (32, 32)))},
            {"prompt": "x"},
            "mask",
        ),
        (
            {"image": file_of(Image.new("RGB", (64, 64))), "mask": file_of(Image.new("RGB", (64, 64)))},
            {"prompt": "x"},
            "mask",
        ),
    ],
)
def test_forms_that_can_not_be_are_refused_by_name(
    server: Server, files: dict[str, bytes], fields: dict[str, str], param: str
) -> None:
    parts = [(name, (f"{name}.png", file)) for name, file in files.items()] or [("other", ("other.png", b"x"))]
    answer = httpx.post(f"{server.url}/images/edits", files=parts, data=fields, timeout=30)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_the_documents_own_lines_work(client: openai.OpenAI) -> None:
    response = client.images.generate(
        model="argmaxinc/mlx-FLUX.1-schnell", prompt="a blue square at the bottom right", n=1, size="64x64"
    )
    assert response.data is not None
    image_url = response.data[0].url
    assert image_url is not None
    drawn = httpx.get(image_url)
    assert drawn.headers["content-type"] == "image/png"
    assert drawn.content == base64.b64decode(response.data[0].b64_json or "")
    assert httpx.get(image_url[:-1] + ("A" if image_url[-1] != "A" else "B")).status_code == 404


def test_a_picture_comes_by_address_or_in_base64(server: Server) -> None:
    def fields(how: str) -> set[str]:
        body = {"prompt": "red circle, left", "response_format": how, "output_format": "webp"}
        return set(server.post("/v1/images/generations", body).json()["data"][0])

    assert fields("url") == {"seed", "url"}
    assert fields("b64_json") == {"seed", "b64_json"}


def test_a_pictures_address_is_public_needs_no_key_and_nothing_else_is_open() -> None:
    public = "https://h.example/base"
    with serving("--model-path", MODEL, "--api-key", "secret", "--public-url", public) as server:
        key = {"x-api-key": "secret"}
        asked = server.http.post(f"{server.url}/images/generations", json={"prompt": "red circle, left"}, headers=key)
        url = asked.json()["data"][0]["url"]
        assert url.startswith(f"{public}/v1/images/")
        assert server.get(url.removeprefix(public)).status_code == 200
        assert server.http.post(f"{server.url}/images/generations", json={"prompt": "x"}).status_code == 401


def test_how_well_and_in_which_style_is_told_to_change_nothing(server: Server) -> None:
    body = {"prompt": "red circle, left", "quality": "hd", "style": "vivid"}
    answer = server.post("/v1/images/generations", body)
    assert answer.status_code == 200
    assert answer.headers["x-ignored-fields"] == "quality, style"


def test_other_work_is_refused(server: Server) -> None:
    answer = server.chat("hello")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert "/v1/images/generations" in answer.json()["error"]["message"]


def test_the_model_says_that_it_draws(server: Server) -> None:
    [model] = server.get("/v1/models").json()["data"]
    assert model["modalities"] == {"input": ["text"], "output": ["image"]}
    assert {"seed", "steps", "guidance", "negative_prompt", "size"} <= set(model["supported_parameters"])
