"""What the server's flags add to a model: adapters that a request may name, a draft model that proposes tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_server.schemas.internal.messages import Load, Loading
from mlx_server.workers.engine.decode.classed import ClassedEngine
from mlx_server.workers.engine.decode.draft import DraftModel, trimmable
from mlx_server.workers.engine.decode.scoring import ScoringEngine
from mlx_server.workers.engine.decode.speculative import SpeculativeEngine
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.loading.adapters import AdapterError, Adapters
from mlx_server.workers.engine.loading.loading import evaluate, read_model, read_tokenizer
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.side_by_side import SideBySide
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.context_length import longest_input

DRAFTS_SHARE = 8
"""One part in this many of the prefix cache's memory is for the draft model's KV states."""

Report = Callable[[Loading], None]


def drafts_bytes(spec: Load, kept: int) -> int:
    """The draft model's part of the `kept` bytes of the prefix cache; 0 without a draft model."""
    return kept // DRAFTS_SHARE if spec.draft_model is not None else 0


def accompanied(
    engine: Engine, model: Any, tokenizer: Any, prefixes: PrefixStore, spec: Load, report: Report, drafts_kept: int
) -> tuple[Engine, list[str]]:
    """The engine with all that the flags add to it, and notes on that. The draft model's prefix cache has `drafts_kept`
    bytes. Raises ModelLoadError."""
    if not (spec.adapter_path or spec.adapter_dir or spec.draft_model):
        return engine, []
    notes: list[str] = []
    speculative = None
    if spec.draft_model is not None:
        draft = load_draft(spec.draft_model, spec, model, tokenizer, report)
        stop_tokens = set(tokenizer.eos_token_ids)
        proposing = SpeculativeEngine(
            model,
            draft,
            stop_tokens,
            prefill_step_size=spec.prefill_step_size,
            prefixes=prefixes,
            draft_prefixes=PrefixStore(drafts_kept),
        )
        speculative = SideBySide(proposing, ScoringEngine(model, proposing, prefixes))
        notes.append(f"{spec.draft_model} proposes tokens where a request asks for it")
    adapters = Adapters(model, *(Path(p) if p else None for p in (spec.adapter_path, spec.adapter_dir)))
    try:
        adapters.use(None)
    except AdapterError as error:
        raise ModelLoadError(str(error)) from None
    return ClassedEngine(engine, speculative, adapters), notes


def load_draft(path: str, spec: Load, model: Any, tokenizer: Any, report: Report) -> DraftModel:
    """Load a draft model that fits the model. Raises ModelLoadError."""
    if not trimmable(model):
        raise ModelLoadError("--draft-model is no use here: this model's cache can't forget tokens that were wrong")
    folder = resolve(path, Path(spec.cache_dir), report, "lm")
    draft, config, _ = read_model(folder, spec.cpu_dtype)
    evaluate(draft, report)
    if not trimmable(draft):
        raise ModelLoadError(f"{path} can't be a draft model: its cache can't forget tokens that were wrong")
    draft_tokenizer, _ = read_tokenizer(folder, config)
    theirs, ours = draft_tokenizer.get_vocab(), tokenizer.get_vocab()
    if (other := difference(theirs, ours)) is not None:
        raise ModelLoadError(f"{path} can't be this model's draft: their vocabularies differ ({other})")
    return DraftModel(draft, logits_width(draft), logits_width(model), longest_input(folder, config, encodes=False))


def difference(theirs: dict[str, int], ours: dict[str, int]) -> str | None:
    """The first token id that means two things, in words; None if there is none. Tokens that only one vocabulary has do
    no harm."""
    names = {id_: name for name, id_ in ours.items()}
    for name, id_ in sorted(theirs.items(), key=lambda item: item[1]):
        if names.get(id_, name) != name:
            return f"token {id_} is {name!r} there and {names[id_]!r} here"
    return None


def logits_width(model: Any) -> int:
    """The width of a model's logits: its vocabulary, padding included."""
    return int(model(mx.array([[0]])).shape[-1])
