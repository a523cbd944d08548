"""The Hugging Face style folder of the model: its configuration, tokenizer, processor and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_vlm.models import qwen3_vl
from shapes.conversations import ABOUT_ONE_OF_TWO, GREETING, NO_PICTURE, ORDINALS, SYSTEM
from shapes.draw import COLOURS, COUNTS, QUESTIONS, SHAPES, SIZE
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

PATCH = 8
MERGE = 2
GRID = SIZE // PATCH
IMAGE_TOKENS = (GRID // MERGE) ** 2
"""Tokens that a picture of `SIZE` by `SIZE` pixels takes, without the two around it."""

VOCABULARY = 512
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Tokens of their own that belong to the text, unlike the special ones."""

PIXELS = {
    "patch_size": PATCH,
    "temporal_patch_size": 2,
    "merge_size": MERGE,
    "min_pixels": SIZE * SIZE,
    "max_pixels": SIZE * SIZE,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_convert_rgb": True,
}
ENGLISH = """The quick brown fox jumps over the lazy dog. You are a helpful assistant, and this is what you can see:
there was one of them with some more, which they would have had if it were not for the other that I know about.
Here is the answer to your question; please tell me how, when, where, why and who. Thank you very much, it is good."""


def make_tokenizer() -> Tokenizer:
    """A small byte-level BPE in which the words of the questions and answers are single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = [AddedToken(mark, special=False, normalized=False) for mark in MARKS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(marks),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens(marks)
    return tokenizer


def corpus() -> list[str]:
    """Text to learn the vocabulary from; what must become single tokens comes often."""
    words = [*COLOURS, *SHAPES, *COUNTS, *ORDINALS, "left", "right", "top", "bottom", "colour", "shape"]
    questions = [text.format("shape") for texts in QUESTIONS.values() for text in texts]
    questions += [text.format("picture") for text in ABOUT_ONE_OF_TWO.values()]
    as_json = '{"colour": "red", "shape": "circle"}\n{"name": "name", "arguments": {"colour": "blue"}}'
    often = [*words, *(f" {word}" for word in words), *questions, *GREETING, NO_PICTURE, *SYSTEM, as_json]
    return [text for text in often for _ in range(20)] + ["system\nuser\nassistant\n"] * 20 + [ENGLISH] * 2


def make_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """`config.json`: Qwen3-VL's architecture, about a thousandth of its smallest size."""
    token = tokenizer.token_to_id
    size = tokenizer.get_vocab_size()
    text = {
        "model_type": "qwen3_vl_text",
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "rms_norm_eps": 1e-6,
        "vocab_size": size,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True},
        "tie_word_embeddings": True,
    }
    vision = {
        "model_type": "qwen3_vl",
        "depth": 3,
        "hidden_size": 128,
        "intermediate_size": 256,
        "out_hidden_size": 128,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "num_position_embeddings": GRID * GRID,
        "in_channels": 3,
        "deepstack_visual_indexes": [1],
    }
    return {
        "model_type": "qwen3_vl",
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "dtype": "float16",
        "vocab_size": size,
        "tie_word_embeddings": True,
        "eos_token_id": [token("<|im_end|>"), token("<|endoftext|>")],
        "pad_token_id": token("<|endoftext|>"),
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "text_config": text,
        "vision_config": vision,
    }


def make_model(config: dict[str, Any], seed: int) -> qwen3_vl.Model:
    """The model with random weights."""
    mx.random.seed(seed)
    return qwen3_vl.Model(qwen3_vl.ModelConfig.from_dict(config))


def write_folder(folder: Path, model: qwen3_vl.Model, config: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Write all that `mlx_vlm.load` needs; weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: array.astype(mx.float16) for name, array in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    processor = {"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor", **PIXELS}
    video = {"video_processor_type": "Qwen3VLVideoProcessor", "fps": 2, "min_frames": 2, "max_frames": 16}
    for name, content in {
        "config.json": config,
        "generation_config.json": {"do_sample": False, "eos_token_id": config["eos_token_id"]},
        "tokenizer_config.json": tokenizer_config(),
        "preprocessor_config.json": processor,
        "video_preprocessor_config.json": {**processor, **video, "max_pixels": 16 * SIZE * SIZE},
    }.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def tokenizer_config() -> dict[str, Any]:
    """`tokenizer_config.json`, with the chat template."""
    template = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8").rstrip("\n")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "Qwen3VLProcessor",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 4096,
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }
