"""Where a prompt's pictures and sounds are among its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mlx_vlm.apc import multimodal_token_ids_from_config

from mlx_server.schemas.internal.generation import MediaKind

MORE_KEYS = ("img_context_token_id", "media_placeholder_token_id", "audio_token_id", "audio_token_index")
"""Names that models' configs have for ids of placeholders, beside those that mlx-vlm knows."""

NAMES = tuple(f"{kind}_token_{word}" for kind in ("video", "audio", "image") for word in ("id", "index"))

Placeholders = Mapping[int, MediaKind]
"""The token ids that stand for features, and what these are features of."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a picture or a sound, from token `start` to before `end`, and the digest of its content."""

    start: int
    end: int
    digest: bytes
    kind: MediaKind = "image"


def placeholders(model: Any, config: Mapping[str, Any]) -> Placeholders:
    """What a model's config says of them. Models that consist of a thinker and others say it of the thinker."""
    configs = [config, *(part for part in (config.get("thinker_config"),) if isinstance(part, Mapping))]
    ids = {part[key]: kind_of(key) for part in configs for key in MORE_KEYS if isinstance(part.get(key), int)}
    kinds: dict[int, MediaKind] = dict.fromkeys(multimodal_token_ids_from_config(model.config), "image")
    for name in NAMES:
        if isinstance(known := getattr(model.config, name, None), int):
            kinds[known] = kind_of(name)
    return kinds | ids


def kind_of(key: str) -> MediaKind:
    """What a placeholder stands for, by the name of its id."""
    return "audio" if "audio" in key else "video" if "video" in key else "image"


def placed(
    tokens: list[int], placeholders: Placeholders, shown: Sequence[tuple[MediaKind, bytes]]
) -> tuple[Place, ...]:
    """Where what is shown, by kinds and digests in order, is: one run of placeholders of its kind each. The only one
    of its kind goes from the first of them to the last; where the runs are not as many, one place takes the whole."""
    places: list[Place] = []
    runs = placeholder_runs(tokens, placeholders)
    for kind in {kind for kind, _ in shown}:
        digests = [digest for one, digest in shown if one == kind]
        own = [(start, end) for one, start, end in runs if one == kind]
        if len(digests) == 1 and own:
            own = [(own[0][0], own[-1][1])]
        if len(own) != len(digests):
            return (Place(0, len(tokens), b"".join(digest for _, digest in shown), shown[0][0]),)
        places += [Place(start, end, digest, kind) for (start, end), digest in zip(own, digests, strict=True)]
    return tuple(sorted(places, key=lambda place: place.start))


def placeholder_runs(tokens: list[int], placeholders: Placeholders) -> list[tuple[MediaKind, int, int]]:
    """The runs of placeholders of one kind: what kind, and their beginnings and ends."""
    runs, at = [], 0
    for kind, run in groupby(tokens, placeholders.get):
        end = at + sum(1 for _ in run)
        if kind is not None:
            runs.append((kind, at, end))
        at = end
    return runs
