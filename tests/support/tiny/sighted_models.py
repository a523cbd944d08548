"""Tiny random models that embed texts and pictures; the one of the family Qwen3-VL is the one that knows shapes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from support.tiny.encoders import WORDS, write_words
from support.tiny.sight import SHAPES

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
PIXELS: dict[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_convert_rgb": True,
}
GEMMA_MARKS = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "video_token": "<|video|>",
}


def make_qwen3_vl(folder: Path, **config: Any) -> Path:
    """The model that knows shapes, under the name that MLX's converters give to such that embed."""
    shutil.copytree(SHAPES, folder, dirs_exist_ok=True)
    own = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(own | {"model_type": "qwen3_vl_embedding"} | config))
    return folder


def make_embedding_gemma2(folder: Path, *, sees: bool = True, **text: Any) -> Path:
    """It also has a part that hears, which is not served."""
    from mlx_vlm.models import embedding_gemma2

    folder.mkdir(parents=True, exist_ok=True)
    size = write_words(folder, "[CLS] $A [SEP]", "[CLS] $A $B [SEP]", *GEMMA_MARKS.values())
    ids = {token: size - len(GEMMA_MARKS) + number for number, token in enumerate(GEMMA_MARKS.values())}
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | GEMMA_MARKS))
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"num_key_value_heads": 2, "head_dim": 16, "global_head_dim": 16, "patch_size": 8}
    own = {**TEXT, "num_key_value_heads": 2, "head_dim": 8, "hidden_size_per_layer_input": 8, "embedding_dim": 24}
    own |= {"vocab_size": size, "sliding_window": 4, "pad_token_id": 1, "model_type": "embedding_gemma2_text"}
    own |= {"layer_types": ["sliding_attention", "full_attention"], "max_position_embeddings": 512}
    own |= {"per_layer_config": {"01": {"head_dim": 16, "num_key_value_heads": 1}}}
    config = {
        "model_type": "embedding_gemma2",
        "text_config": own | text,
        "vision_config": {**vision, "position_embedding_size": 64, "model_type": "gemma4_vision"} if sees else None,
        "audio_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "output_proj_dims": 16},
        "image_token_id": ids["<|image|>"],
        "boi_token_id": ids["<|image>"],
        "eoi_token_id": ids["<image|>"],
        "audio_token_id": ids["<|audio|>"],
        "video_token_id": ids["<|video|>"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    pixels = {**PIXELS, "patch_size": 8, "max_soft_tokens": 70, "pooling_kernel_size": 3}
    processor = {"image_processor": pixels, "processor_class": "EmbeddingGemma2Processor"}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    save_random(folder, embedding_gemma2.Model(embedding_gemma2.ModelConfig.from_dict(config)))
    return folder


def make_siglip(folder: Path, *, vocab_size: int | None = None) -> Path:
    """Weights have the names and shapes that Transformers gives them. With a size, the tokenizer is there already."""
    import mlx.core as mx

    from mlx_server.workers.engine.embed.multimodal.siglip_model import SiglipModel

    folder.mkdir(parents=True, exist_ok=True)
    size = vocab_size or write_words(folder, "$A [SEP]", "$A $B [SEP]")
    vision = {**TEXT, "image_size": 32, "patch_size": 8}
    config = {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "text_config": {**TEXT, "vocab_size": size, "max_position_embeddings": 16},
        "vision_config": vision,
    }
    (folder / "config.json").write_text(json.dumps(config))
    pixels = {**PIXELS, "size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({**pixels, "resample": 3, "image_processor_type": "SiglipImageProcessor"})
    )
    weights = random_weights(SiglipModel(config))
    head = "vision_model.head.attention."
    for kind in ("weight", "bias"):
        parts = [weights.pop(f"{head}{part}_proj.{kind}", None) for part in ("query", "key", "value")]
        weights[f"{head}in_proj_{kind}"] = mx.concatenate(parts)
    kernel = "vision_model.embeddings.patch_embedding.weight"
    weights[kernel] = weights[kernel].transpose(0, 3, 1, 2)
    weights = {name.removeprefix("text_model.") if "text_model" in name else name: a for name, a in weights.items()}
    save(folder, weights | {"logit_scale": mx.zeros((1,)), "logit_bias": mx.zeros((1,))})
    return folder


def write_siglip_words(folder: Path) -> int:
    """The tokenizer of the first SigLIP, which is no fast one; returns the size of its vocabulary."""
    import sentencepiece

    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink(missing_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 4),
        model_prefix=str(folder / "spiece"),
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    settings = {"tokenizer_class": "SiglipTokenizer", "do_lower_case": True, "model_max_length": 16}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model")).get_piece_size())


def random_weights(model: Any) -> dict[str, Any]:
    """Some for each place, which make vectors that differ."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    mx.random.seed(0)
    return {
        name: mx.random.normal(array.shape) * (0.3 if array.ndim > 1 else 0.1)
        for name, array in tree_flatten(model.parameters())
    }


def save_random(folder: Path, model: Any) -> None:
    """Write such weights."""
    save(folder, random_weights(model))


def save(folder: Path, weights: dict[str, Any]) -> None:
    """Write weights."""
    import mlx.core as mx

    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
