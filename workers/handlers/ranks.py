"""A model's ranks on their engine threads: rank 0 leads, the others carry out its orders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, assert_never

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.schemas.internal.hosts import Hosts, sharing
from mlx_server.schemas.internal.messages import Load, Loading
from mlx_server.workers.engine.decode.prefill import forked
from mlx_server.workers.engine.kvcache.layers import extend, extracted, keep, merged, pad, shorten, unpad
from mlx_server.workers.engine.loading.loading import evaluate, read_model
from mlx_server.workers.engine.loading.rank_files import files_read
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.passes.prompts import read_into
from mlx_server.workers.engine.ranks.model import Followers, LeadingModel, compute, least, shared
from mlx_server.workers.engine.ranks.orders import (
    Extend,
    Extract,
    Forget,
    Fork,
    Forward,
    Join,
    Keep,
    MakeCache,
    Measure,
    Merge,
    Order,
    Pad,
    Shorten,
    Unpad,
)
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.hub.part import Part

CLEAR_EVERY = 512
"""Calls of the model after which a follower releases MLX's unused memory; after a prompt's chunk it does so at once."""


class Leading(Followers, Protocol):
    """The other ranks, to the handler of rank 0."""

    join: Join
    """What rank 0 joins with."""

    def enter(self) -> None:
        """Wait until all have found the model, and have them join. Raises ModelLoadError."""


def join(ranks: Leading, report: Callable[[Loading], None]) -> mx.distributed.Group:
    """Become rank 0; waits for the others. Raises ModelLoadError, also for what such a model can't have."""
    refuse_what_is_not_spread(ranks.join.load)
    report(Loading("waiting for the other hosts"))
    ranks.enter()
    return join_group(ranks.join)


def join_group(join: Join) -> mx.distributed.Group:
    """Become a rank; all have to be about it, since MLX lets nothing else run in this process while it waits. Raises
    ModelLoadError."""
    backend = hosts_of(join).backend.removesuffix("-ring")
    os.environ.update(join.environment)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in join.files.items():
            file = Path(folder, name)
            file.write_text(content)
            os.environ[name] = str(file)
        os.environ["MLX_RANK"] = str(join.rank)
        try:
            return mx.distributed.init(strict=True, backend=backend)
        except RuntimeError as error:
            raise ModelLoadError(f"rank {join.rank} can't join the others by {backend}: {one_line(error)}") from None


class Follower:
    """One of the ranks behind rank 0: carries out its orders. All on one thread."""

    def __init__(self, model: Any, group: mx.distributed.Group, sharing: int = 1) -> None:
        """`model` is this rank's part; so many ranks are `sharing` its machine."""
        self._model = model
        self._group = group
        self._sharing = sharing
        self.caches: dict[int, list[Any]] = {}
        """The counterparts of rank 0's caches, by their numbers."""
        self._calls = 0

    def follow(self, orders: Iterable[Order]) -> None:
        """Carry out orders. Raises anything: the group is lost then."""
        for order in orders:
            self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        caches = self.caches
        match order:
            case Forward(shape, cache, reads):
                self._forward(shape, None if cache is None else caches[cache], reads=reads)
            case MakeCache(made):
                caches[made] = make_prompt_cache(self._model)
            case Fork(made, cache):
                caches[made] = forked(caches[cache])
            case Merge(made, of):
                caches[made] = merged([caches[one] for one in of])
            case Extend(cache, other):
                extend(caches[cache], caches[other])
            case Extract(made, cache, row, own):
                caches[made] = extracted(caches[cache], row, own=own)
            case Keep(cache, rows):
                keep(caches[cache], rows)
            case Pad(cache, lengths, padding):
                pad(caches[cache], lengths, padding)
            case Unpad(cache):
                unpad(caches[cache])
            case Shorten(cache, tokens, length):
                if not shorten(caches[cache], tokens, length):
                    raise ValueError("a cache that rank 0 could cut can't be cut here")
            case Forget(gone):
                for one in gone:
                    del caches[one]
            case Measure():
                least(platform.free_bytes() // self._sharing, self._group)
            case _:
                assert_never(order)

    def _forward(self, shape: tuple[int, int], cache: list[Any] | None, *, reads: bool) -> None:
        tokens = shared(mx.zeros(shape, mx.int32), self._group)
        self._calls += 1
        if reads and cache is not None:
            read_into(self._model, tokens, cache)
        else:
            compute(self._model, tokens, cache, reads=False)
        if reads or self._calls % CLEAR_EVERY == 0:
            mx.clear_cache()


def follower(join: Join, resolved: Callable[[], None]) -> Follower:
    """The rank that is to join, with its part of the model; of what is downloaded there are only the weights that it
    reads. `resolved` is called once they are there, and returns when all ranks have theirs. Raises ModelLoadError."""
    load, hosts = join.load, hosts_of(join).hosts
    with tempfile.TemporaryDirectory(prefix="mlx-server-") as scratch:
        part = Part(Path(scratch), lambda folder: files_read(folder, join.rank, len(hosts)))
        folder = resolve(load.model_path, Path(load.cache_dir), lambda _: None, load.model_type, part)
        resolved()
        group = join_group(join)
        platform.configure()
        model, _, _ = read_model(folder, load.cpu_dtype, group)
        evaluate(model, lambda _: None)
    return Follower(model, group, sharing(hosts, join.rank))


def hosts_of(join: Join) -> Hosts:
    """Where all ranks are."""
    assert join.load.hosts is not None
    return join.load.hosts


def free_bytes(model: Any, load: Load) -> int:
    """The memory that is free to a loaded model: of ranks that share a machine each has its part, and what the least of
    all ranks has goes for all."""
    if load.hosts is None:
        return platform.free_bytes()
    assert isinstance(model, LeadingModel)
    return model.free_bytes(platform.free_bytes() // sharing(load.hosts.hosts, 0))


def refuse_what_is_not_spread(load: Load) -> None:
    """Raise ModelLoadError for what can't be had of a model on several ranks."""
    wanted: Mapping[str, object] = {
        "--adapter-path": load.adapter_path,
        "--adapter-dir": load.adapter_dir,
        "--draft-model": load.draft_model,
        "--kv-bits": load.kv_bits,
        "--prompt-cache-dir": load.prompt_cache_dir,
        "--cpu-dtype packed": load.cpu_dtype == "packed" or None,
    }
    if refused := [flag for flag, value in wanted.items() if value is not None]:
        raise ModelLoadError(f"a model on several hosts can't have {' or '.join(refused)}")
