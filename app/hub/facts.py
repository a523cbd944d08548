"""From what the hub tells of a repository to what we say of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_server.app.catalog.classify import classify, quantisation
from mlx_server.app.catalog.kinds import MLX_GUI_TYPES
from mlx_server.app.hub.model import HubModel
from mlx_server.workers.hub.files import needed

TYPES = {
    "text-generation": "text",
    "text2text-generation": "text",
    "image-text-to-text": "vision",
    "image-to-text": "vision",
    "visual-question-answering": "vision",
    "any-to-any": "multimodal",
    "audio-text-to-text": "multimodal",
    "video-text-to-text": "multimodal",
    "automatic-speech-recognition": "audio",
    "text-to-speech": "audio",
    "text-to-audio": "audio",
    "audio-to-audio": "audio",
    "feature-extraction": "embedding",
    "sentence-similarity": "embedding",
    "text-ranking": "reranker",
    "text-to-image": "image",
    "image-to-image": "image",
}
"""By the hub's pipeline tag."""

BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1),
}
"""Of one number, by safetensors' names of types."""

MLX_NAMES = {"mlx", "mlx-lm", "mlx-vlm", "mlx-audio"}
GROUP = 64
"""Packed numbers that share a scale and a bias, if nobody says otherwise."""

BITS = re.compile(r"(?<![a-z\d])(?:(\d)-?bit|q(\d)(?![a-z\d]))", re.IGNORECASE)
OTHER_WAYS = re.compile(r"(?<![a-z\d])(bf16|fp16|f16|mxfp4|nvfp4|mxfp8)(?![a-z\d])", re.IGNORECASE)
COUNT = re.compile(r"(?<![a-z\d.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z\d])", re.IGNORECASE)
"""`7B`, `0.6b`, `135M` and `8x7B` in a name, but not the 4b of `4bit`."""


def model_of(info: Any, mlx_repo_id: str | None = None) -> HubModel:
    """A repository as the hub's client tells of it (`ModelInfo`)."""
    tags = tuple(info.tags or ())
    config: Mapping[str, Any] = info.config or {}
    held, bits = held_as(info.id, config, tags)
    counted: Mapping[str, int] = info.safetensors.parameters if info.safetensors else {}
    return HubModel(
        id=info.id,
        model_type=model_type(info.pipeline_tag, config),
        tags=tags,
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        mlx_compatible=info.library_name in MLX_NAMES or "mlx" in tags,
        created_at=info.created_at,
        updated_at=info.last_modified,
        library_name=info.library_name,
        pipeline_tag=info.pipeline_tag,
        architecture=str(config["model_type"]) if config.get("model_type") else None,
        quantisation=held,
        parameters=parameters(counted, bits) or named_parameters(info.id),
        size_bytes=download_bytes(info) or weight_bytes(counted),
        mlx_repo_id=mlx_repo_id,
        gated=bool(info.gated),
        base_model=base_model(tags),
    )


def model_type(pipeline_tag: str | None, config: Mapping[str, Any]) -> str:
    """What a model is for: its author's word, else its configuration's."""
    return TYPES.get(pipeline_tag or "") or MLX_GUI_TYPES[classify(config).model_type]


def held_as(repo_id: str, config: Mapping[str, Any], tags: Sequence[str]) -> tuple[str | None, int | None]:
    """How the weights are held, for people, and their bits if they are packed: by configuration, tags, or name."""
    words, bits = quantisation(config)
    if bits is not None:
        return words, bits
    for text in (*tags, repo_id.rpartition("/")[2]):
        if found := BITS.search(text):
            number = int(found[1] or found[2])
            return f"{number}-bit", number
    if other := OTHER_WAYS.search(repo_id):
        return other[1].lower(), 4 if other[1].lower() in ("mxfp4", "nvfp4") else None
    return words, None


def parameters(counted: Mapping[str, int], bits: int | None) -> int | None:
    """Numbers, from those that the hub counted by type: a U32 of packed weights stands for several."""
    words = counted.get("U32", 0)
    others = sum(count for dtype, count in counted.items() if dtype != "U32")
    if not words or not bits:
        return sum(counted.values()) or None
    packed = words * 32 // bits
    return packed + max(0, others - 2 * packed // GROUP)


def named_parameters(repo_id: str) -> int | None:
    """What a name says: 7B, 8x7B, 135M; of several the first."""
    found = COUNT.search(repo_id.rpartition("/")[2])
    if found is None:
        return None
    times, number, unit = found.groups()
    return int(int(times or 1) * float(number) * (1e9 if unit in "bB" else 1e6))


def weight_bytes(counted: Mapping[str, int]) -> int | None:
    """Bytes of all weights; None if nothing is counted or a type is unknown."""
    if not counted or counted.keys() - BYTES.keys():
        return None
    return sum(BYTES[dtype] * count for dtype, count in counted.items())


def download_bytes(info: Any) -> int | None:
    """Bytes of all files that would be downloaded, if the hub was asked for their sizes."""
    return sum(file.size for file in needed(info.siblings or ())) or None


def base_model(tags: Sequence[str]) -> str | None:
    """The repository that a model was made from."""
    return next((tag.rpartition(":")[2] for tag in tags if tag.startswith("base_model:")), None)
