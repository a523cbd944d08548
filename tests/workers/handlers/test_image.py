"""The handler of models that draw, in the test's own process: requests go in, files come out, in turns."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny.drawing import make_drawing_model

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import Load, MediaLimits, Picture
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.workers.engine.jobs import completed
from mlx_server.workers.engine.sequence import Computed
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.handlers import make_handler
from mlx_server.workers.handlers.image import ImageHandler

pytestmark = pytest.mark.model

SMALL = MediaLimits(image_pixels=10_000)


def handler_of(folder: Path) -> ImageHandler:
    handler = make_handler("image")
    assert isinstance(handler, ImageHandler)
    handler.load(Load(str(folder), "image", 4, 512, "/dev/null/nowhere", media_limits=SMALL), print)
    return handler


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageHandler]:
    handler = handler_of(make_drawing_model(tmp_path_factory.mktemp("guided"), guided=True))
    yield handler
    handler.close()


def request(prompt: str = "a red circle", **fields: object) -> PictureRequest:
    given = {"seed": 1, "width": 64, "height": 64, "steps": 3, "guidance": 0.0, **fields}
    return PictureRequest(prompt=prompt, **given)


def steps_of(handler: ImageHandler) -> list[Computed]:
    steps = []
    while handler.engine.busy:
        [made] = handler.engine.step()
        step = completed(made)
        assert isinstance(step, Computed), step
        steps.append(step)
    return steps


def pictures_of(steps: list[Computed], ticket: int) -> list[Picture]:
    return [result for step in steps if step.key[0] == ticket for result in step.results]


def test_requests_take_turns_a_step_each(handler: ImageHandler) -> None:
    for ticket in (1, 2):
        [job] = handler.prepare(ticket, request(steps=4))
        handler.engine.add(job)
    steps = steps_of(handler)
    assert [step.key[0] for step in steps] == [1, 2] * 5
    assert [step.progress for step in steps if step.key[0] == 1] == [(0, 3), (1, 3), (2, 3), (3, 3), (3, 3)]
    assert [step.finish for step in steps] == [None] * 8 + ["stop"] * 2
    [first], [second] = (pictures_of(steps, ticket) for ticket in (1, 2))
    assert first.data == second.data
    assert Image.open(BytesIO(first.data)).size == (first.width, first.height) == (64, 64)


def test_a_removed_request_takes_no_more_steps(handler: ImageHandler) -> None:
    [job] = handler.prepare(1, request(steps=50))
    handler.engine.add(job)
    handler.engine.step()
    handler.engine.step()
    handler.engine.remove(job.key)
    assert not handler.engine.busy
    assert job.done == 1


def test_a_request_is_counted_in_tokens(handler: ImageHandler) -> None:
    [job] = handler.prepare(1, request(count=2))
    answer = handler.answer_stream(job)
    handler.engine.add(job)
    for step in steps_of(handler):
        list(answer.add(step))
    finished = answer.finished()
    assert finished.completion_tokens == 2 * (64 // 16) ** 2
    assert finished.prompt_tokens == answer.started().prompt_tokens > 3


def test_guidance_and_its_negative_prompt_change_the_picture(handler: ImageHandler) -> None:
    files = []
    for more in ({}, {"guidance": 4.0}, {"guidance": 4.0, "negative_prompt": "blue"}):
        [job] = handler.prepare(1, request(**more))
        handler.engine.add(job)
        [picture] = pictures_of(steps_of(handler), 1)
        files.append(picture.data)
    assert len(set(files)) == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "word " * 600}, "prompt"),
        ({"guidance": 4.0, "negative_prompt": "word " * 600}, "negative_prompt"),
        ({"transparent": True}, "background"),
        ({"width": 63}, "size"),
    ],
)
def test_what_the_model_can_not_is_refused_by_name(
    handler: ImageHandler, fields: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        handler.prepare(1, request(**fields))
    assert refused.value.param == param


def test_other_work_is_refused(handler: ImageHandler) -> None:
    with pytest.raises(InvalidRequest, match="draws, and does nothing else"):
        handler.prepare(1, GenerationRequest(TextPrompt("hello"), max_tokens=8))


def test_a_mask_is_what_may_change(handler: ImageHandler, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    mask = Image.new("RGBA", (80, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 16, 16))
    mask.save(tmp_path / "mask.png")
    files = {"image": str(tmp_path / "image.png"), "mask": str(tmp_path / "mask.png")}
    opened = handler.open(request(width=None, height=None, **files))
    [job] = handler.prepare(1, opened)
    handler.engine.add(job)
    [picture] = pictures_of(steps_of(handler), 1)
    drawn = np.asarray(Image.open(BytesIO(picture.data)))
    assert drawn.shape == pixels.shape
    assert (drawn[:16, :16] != pixels[:16, :16]).any()
    assert (drawn[16:] == pixels[16:]).all()
    assert (drawn[:, 16:] == pixels[:, 16:]).all()


def test_a_picture_that_is_too_large_is_refused(handler: ImageHandler, tmp_path: Path) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "image.png")
    with pytest.raises(InvalidRequest, match="at most 10000 are allowed") as refused:
        handler.open(request(image=str(tmp_path / "image.png")))
    assert refused.value.param == "image"


def test_a_folder_of_another_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ModelLoadError, match="names StableDiffusionPipeline"):
        handler_of(tmp_path)
