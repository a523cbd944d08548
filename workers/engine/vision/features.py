"""A cache of picture features before a model's encoder, which looks at each distinct picture once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from mlx_server.workers.engine.vision.per_image import Call, apart, concatenated, joined, pieces

TOWERS = ("vision_tower", "vision_model", "visual", "vision_encoder", "vision")
"""What models call their encoder of pictures."""


class FeatureMemory:
    """An LRU cache of features that take up to `limit_bytes`. Engine thread only."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all features."""
        return self._bytes

    def get(self, key: bytes) -> Any:
        """The features under a key; None if there are none."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: bytes, features: Any) -> None:
        """Cache features, evaluated and in memory of their own: slices would hold all of what they are slices of."""
        features = tree_map(lambda leaf: mx.contiguous(leaf) if isinstance(leaf, mx.array) else leaf, features)
        arrays = [leaf for _, leaf in tree_flatten(features) if isinstance(leaf, mx.array)]
        mx.eval(arrays)
        size = sum(array.nbytes for array in arrays)
        if size > self._limit:
            return
        self._kept[key] = features, size
        self._bytes += size
        while self._bytes > self._limit:
            _, (_, left) = self._kept.popitem(last=False)
            self._bytes -= left

    def clear(self) -> None:
        """Evict all features."""
        self._kept.clear()
        self._bytes = 0


class RememberingTower:
    """Stands in an encoder's place. Pictures that come together are looked at one by one, if `separately`, or, if also
    `together`, those of them that are not remembered in one pass."""

    def __init__(self, tower: Any, memory: FeatureMemory) -> None:
        self._tower = tower
        self.memory = memory
        self.separately = True
        self.together = False
        self.tenant = ""
        """Whose pictures come next: what is remembered of one tenant's is not used for another's."""
        self._looks: list[bool] = []
        """Whether each call for a piece, mostly a picture, was computed: else it was remembered."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The encoder's output, remembered or computed."""
        call = Call(args, kwargs)
        each = pieces(call) if self.separately else None
        if each is None:
            return self._look(call)
        found = self._look_together(each) if self.together and len(each) > 1 else None
        return concatenated(found or [self._look(piece) for piece in each])

    def start_over(self, *, separately: bool, together: bool = False) -> None:
        """Evict all features."""
        self.separately = separately
        self.together = together
        self._looks = []
        self.memory.clear()

    def counted(self, pictures: int) -> tuple[int, int]:
        """How many of `pictures` pictures have been computed since the last call, and how many were remembered."""
        computed = sum(self.computed(pictures))
        return computed, pictures - computed

    def computed(self, pictures: int) -> list[bool]:
        """Of each of `pictures` pictures, whether it has been computed since the last call."""
        looks, self._looks = self._looks, []
        return looks if len(looks) == pictures else [any(looks)] * pictures

    def _look(self, call: Call) -> Any:
        key = key_of(call, self.tenant)
        features = None if key is None else self.memory.get(key)
        self._looks.append(features is None)
        if features is None:
            features = self._tower(*call.args, **call.kwargs)
            if key is not None:
                self.memory.put(key, features)
        return features

    def _look_together(self, each: list[Call]) -> list[Any] | None:
        """The features of each piece, of which all that are not remembered are computed in one pass; None where what
        comes out can't be told apart."""
        keys = [key_of(piece, self.tenant) for piece in each]
        known = {key: self.memory.get(key) for key in keys if key is not None}
        new = {key: piece for key, piece in zip(keys, each, strict=True) if key is None or known[key] is None}
        if None in new or len(new) < 2:
            return None
        call = joined(list(new.values()))
        computed = apart(self._tower(*call.args, **call.kwargs), [piece.args[0].shape[0] for piece in new.values()])
        if computed is None:
            return None
        for key, features in zip(new, computed, strict=True):
            assert key is not None
            known[key] = features
            self.memory.put(key, features)
        self._looks += [key in new and key not in keys[:place] for place, key in enumerate(keys)]
        return [known[key] for key in keys if key is not None]


def key_of(call: Call, tenant: str = "") -> bytes | None:
    """A digest of a call: its tenant and all its numbers. None for a call with arguments of other kinds."""
    known = hashlib.blake2b(f"{tenant}\0".encode(), digest_size=16)
    for name, leaf in [*tree_flatten(list(call.args)), *tree_flatten(call.kwargs)]:
        known.update(f"{name}:{type(leaf).__name__}".encode())
        match leaf:
            case mx.array():
                known.update(f"{leaf.dtype}{leaf.shape}".encode())
                known.update(np.ascontiguousarray(leaf.reshape(-1).view(mx.uint8)).data if leaf.size else b"")
            case np.ndarray():
                known.update(f"{leaf.dtype}{leaf.shape}".encode())
                known.update(np.ascontiguousarray(leaf).data)
            case None | bool() | int() | float() | str():
                known.update(repr(leaf).encode())
            case _:
                return None
    return known.digest()


def remember(model: Any, limit_bytes: int) -> RememberingTower | None:
    """Put a feature cache before the model's encoder of pictures; None where no encoder is found."""
    if not limit_bytes:
        return None
    for name in TOWERS:
        tower = getattr(model, name, None)
        if callable(tower):
            remembering = RememberingTower(tower, FeatureMemory(limit_bytes))
            setattr(model, name, remembering)
            return remembering
    return None


def forget(model: Any, remembering: RememberingTower) -> None:
    """Put the encoder back in its place."""
    for name in TOWERS:
        if getattr(model, name, None) is remembering:
            setattr(model, name, remembering._tower)
