"""LoRA and DoRA adapters in mlx-lm's format, put on one model and taken off again, exactly."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.utils import load_adapters

from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.errors import one_line
from mlx_server.workers.folders.adapter_folder import CONFIG, NO_ADAPTER, find_adapter

WEIGHTS = "adapters.safetensors"
REMOVABLE = ("lora", "dora")
ADAPTER_LEAVES = ("lora_a", "lora_b", "m")
KEPT = 4
"""Adapters whose layers stay in memory for the next time."""

Layers = dict[str, Any]
"""Modules of a model by their names."""


class AdapterError(Exception):
    """Raised when an adapter can't be used; the model is then without any. `requested`: a client named it."""

    def __init__(self, message: str, *, requested: bool) -> None:
        super().__init__(message)
        self.requested = requested


class Edition(NamedTuple):
    """An adapter's folder as it is now: files that change make another edition."""

    folder: Path
    config_ns: int
    weights_ns: int


class Adapters:
    """What one model wears. Adapters wrap some of its layers: the layers themselves stay as they were read.

    Engine thread only, and only while no sequence is under way.
    """

    def __init__(self, model: Any, default: Path | None, folder: Path | None) -> None:
        self._model = model
        self._default = default
        self._folder = folder
        self._bare: Layers = dict(model.named_modules())
        self._own_weights = {name for name, _ in tree_flatten(model.parameters())}
        self._worn: Edition | None = None
        self._kept: OrderedDict[Edition, Layers] = OrderedDict()

    def use(self, name: str | None) -> None:
        """Have the model wear this adapter; None is the default one, if there is any. Raises AdapterError."""
        edition = self._edition(name)
        if edition == self._worn:
            return
        self._take_off()
        if edition is None:
            return
        layers = self._kept.get(edition) or self._read(edition.folder, name)
        self._put_on(layers)
        self._worn = edition
        self._kept[edition] = layers
        self._kept.move_to_end(edition)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    @property
    def worn(self) -> str:
        """What names the adapter that the model wears, as `variant` does."""
        return named(self._worn)

    def variant(self, name: str | None) -> str:
        """Names the edition of an adapter, also to another process; empty for none. From any thread. Raises
        AdapterError."""
        return named(self._edition(name))

    def _edition(self, name: str | None) -> Edition | None:
        if name == NO_ADAPTER or (name is None and self._default is None):
            return None
        folder = self._default if name is None else self._folder and find_adapter(self._folder, name)
        if folder is None:
            raise self._refusal(name, "it is not there any more")
        try:
            times = [(folder / file).stat().st_mtime_ns for file in (CONFIG, WEIGHTS)]
        except OSError as error:
            raise self._refusal(name, f"{error.strerror}: {Path(error.filename).name}") from None
        return Edition(folder, *times)

    def _read(self, folder: Path, name: str | None) -> Layers:
        """An adapter's layers round the model's, evaluated; they are on the model then. Raises AdapterError."""
        try:
            kind = json.loads((folder / CONFIG).read_text()).get("fine_tune_type", "lora")
            if kind not in REMOVABLE:
                raise ValueError(f"a fine-tune of type {kind!r} can't be taken off again: serve it as a model")
            own = self._own_weights.intersection(mx.load(str(folder / WEIGHTS)))
            if own:
                raise ValueError(f"it has weights of the model itself, such as {min(own)}")
            load_adapters(self._model, str(folder))
            layers = self._replaced()
            if not layers:
                raise ValueError("it is for no layer of this model")
            settle(layers)
        except Exception as error:  # the files may hold anything, and mlx-lm then raises anything
            self._take_off()
            missing = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
            raise self._refusal(name, missing.replace(str(folder), folder.name)) from error
        return layers

    def _replaced(self) -> Layers:
        """Where the model has other modules than it was read with."""
        now = dict(self._model.named_modules())
        return {name: now[name] for name, module in self._bare.items() if name in now and now[name] is not module}

    def _take_off(self) -> None:
        self._put_on({name: self._bare[name] for name in self._replaced()})
        self._worn = None

    def _put_on(self, layers: Layers) -> None:
        if layers:
            self._model.update_modules(tree_unflatten(list(layers.items())))

    def _refusal(self, name: str | None, reason: str) -> AdapterError:
        if name is None:
            return AdapterError(f"the default adapter can't be used: {reason}", requested=False)
        return AdapterError(f"`adapters`: {name!r} can't be used: {reason}", requested=True)


def named(edition: Edition | None) -> str:
    """An edition as a text."""
    return "" if edition is None else ":".join(map(str, edition))


def settle(layers: Layers) -> None:
    """Read an adapter's weights, in the precision that the machine computes fastest, and end its training mode."""
    for layer in layers.values():
        layer.eval()
        leaves = {leaf: layer[leaf] for leaf in ADAPTER_LEAVES if leaf in layer}
        if platform.on_cpu():
            leaves = {leaf: array.astype(mx.float32) for leaf, array in leaves.items()}
            layer.update(leaves)
        mx.eval(list(leaves.values()))
