"""The shapes' pictures and their model: what it is asked, what it answers, and how it is made."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapes.conversations import Turn, draw_conversation
from shapes.draw import COLOURS, RGB, SHAPES, SIZE, Question, draw_scene
from shapes.held_out import held_out, messages_up_to

HERE = Path(__file__).parent
MODEL = HERE / "model"
MB = 1_000_000


@pytest.fixture(scope="module")
def oracle() -> Any:
    from shapes.oracle import Oracle

    from mlx_server.workers.engine.runtime import platform

    platform.configure()
    return Oracle(MODEL)


@pytest.fixture(scope="module")
def held_out_turns() -> list[tuple[str, tuple[Turn, ...]]]:
    """Six questions of each kind, from a seed that nothing was trained or measured with."""
    return list(held_out(random.Random(20_000), 6))


def test_a_seed_draws_the_same_picture_and_questions_every_time() -> None:
    def drawn(seed: int) -> tuple[bytes, list[Question]]:
        rnd = random.Random(seed)
        scene = draw_scene(rnd, 3)
        return scene.image().tobytes(), scene.questions(rnd)

    assert drawn(1) == drawn(1)
    assert drawn(1)[0] != drawn(2)[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_picture_shows_what_its_scene_says(count: int) -> None:
    scene = draw_scene(random.Random(count), count)
    assert len(scene.shapes) == count
    for size in (SIZE, 200):
        image = scene.image(size)
        assert image.size == (size, size)
        for shape in scene.shapes:
            assert image.getpixel((round(shape.x * size), round(shape.y * size))) == RGB[shape.colour]


def test_single_shapes_are_drawn_in_every_colour_form_and_corner() -> None:
    rnd = random.Random(3)
    shapes = [draw_scene(rnd).shapes[0] for _ in range(500)]
    assert {(shape.kind, shape.colour, shape.side, shape.height) for shape in shapes} == {
        (kind, colour, side, height)
        for kind in SHAPES
        for colour in COLOURS
        for side in ("left", "right")
        for height in ("top", "bottom")
    }


def test_the_shipped_folder_is_small() -> None:
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= 8 * MB


@pytest.mark.model
def test_the_shipped_model_answers_fresh_questions(
    oracle: Any, held_out_turns: list[tuple[str, tuple[Turn, ...]]]
) -> None:
    wrong = [
        (kind, turns[-1].text, turns[-1].answer, said)
        for kind, turns in held_out_turns
        if (said := ask(oracle, turns, lambda scene: scene.image())) != turns[-1].answer
    ]
    assert len(wrong) <= 0.05 * len(held_out_turns), wrong


@pytest.mark.model
def test_the_shipped_model_answers_about_larger_pictures(
    oracle: Any, held_out_turns: list[tuple[str, tuple[Turn, ...]]]
) -> None:
    about_single_shapes = [turns for kind, turns in held_out_turns if kind in ("colour", "shape", "side", "height")]
    wrong = [turns for turns in about_single_shapes if ask(oracle, turns, lambda s: s.image(300)) != turns[-1].answer]
    assert len(wrong) <= 0.1 * len(about_single_shapes), wrong


def ask(oracle: Any, turns: tuple[Turn, ...], photograph: Callable[[Any], Any]) -> str:
    pictures = [photograph(scene) for turn in turns for scene in turn.pictures]
    return str(oracle.answer(messages_up_to(turns), pictures))


@pytest.mark.model
def test_training_computes_what_the_served_model_computes(oracle: Any) -> None:
    import mlx.core as mx
    from mlx_vlm.utils import prepare_inputs
    from shapes.batches import encode, make_batch
    from shapes.forward import last_hidden
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    rnd = random.Random(4)
    seen = 0
    for _ in range(12):
        conversation = draw_conversation(rnd)
        if not conversation.pictures:
            continue
        seen += len(conversation.pictures)
        system = [{"role": "system", "content": conversation.system}] if conversation.system else []
        prompt = oracle.prompt([*system, *messages_up_to(conversation.turns)])
        pictures = [scene.image() for scene in conversation.pictures]
        served = prepare_inputs(oracle.processor, images=pictures, prompts=prompt, add_special_tokens=False)
        ids = served["input_ids"]

        batch = make_batch(rnd, tokenizer, [conversation], photograph=lambda _, scene: scene.image())
        length = ids.shape[1]
        assert encode(tokenizer, conversation)[0][:length] == ids[0].tolist()
        assert batch.patches.reshape(served["pixel_values"].shape) == pytest.approx(
            np.array(served["pixel_values"]), abs=1e-5
        )
        positions, _ = oracle.model.language_model.get_rope_index(ids, served["image_grid_thw"])
        assert batch.positions[:, :, :length].tolist() == positions.tolist()
        logits = oracle.model(ids, served["pixel_values"], image_grid_thw=served["image_grid_thw"]).logits
        language = oracle.model.language_model.model
        trained = language.embed_tokens.as_linear(last_hidden(oracle.model, batch))[:, :length]
        assert mx.allclose(trained, logits, atol=1e-3)
    assert seen >= 12


@pytest.mark.model
def test_the_tokenizer_takes_any_text(oracle: Any) -> None:
    text = "Grüße, 世界! 🙂\n\t{x}"
    tokenizer = oracle.processor.tokenizer
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.model
def test_the_template_renders_functions_their_calls_and_results(oracle: Any) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    function = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}
    call = {"type": "function", "id": "1", "function": {"name": "paint", "arguments": {"colour": "red"}}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [picture, {"type": "text", "text": "Paint."}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "done", "tool_call_id": "1"},
    ]
    assert oracle.prompt(messages, tools=[function]) == (
        "<|im_start|>system\nBe brief.\n\nYou may call these functions:\n<tools>\n"
        '{"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}\n</tools>\n'
        'Call one so:\n<tool_call>\n{"name": name, "arguments": arguments}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Paint.<|im_end|>\n"
        "<|im_start|>assistant\n"
        '<tool_call>\n{"name": "paint", "arguments": {"colour": "red"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\ndone\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.model
def test_the_training_script_writes_a_folder_that_loads(tmp_path: Path) -> None:
    from shapes.oracle import Oracle

    script = [sys.executable, HERE / "train.py", "--steps", "2", "--held-out", "1", "--out", tmp_path]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "step 1 of 2, loss " in done.stdout
    assert "| **all** |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    rnd = random.Random(5)
    turn = Turn((scene := draw_scene(rnd),), "What colour is the shape?", "")
    said = Oracle(tmp_path).answer(messages_up_to([turn]), [scene.image()], max_tokens=3)
    assert isinstance(said, str)
