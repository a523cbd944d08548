"""What proposes tokens to a language model: a small model, or a head that was trained for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlx_server.schemas.internal.messages import Load, Loading
from mlx_server.workers.engine.decode.admission import Footprint, footprint
from mlx_server.workers.engine.decode.batch import MakeRows
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.kvcache.whole_windows import keep_windows_whole
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.propose.batch import ProposingBatch
from mlx_server.workers.engine.propose.draft_head import DraftHead, load_head
from mlx_server.workers.engine.propose.draft_model import DraftModel, load_draft
from mlx_server.workers.engine.propose.drafter import Drafter
from mlx_server.workers.engine.propose.drafts import ModelDrafter
from mlx_server.workers.engine.propose.heads import HeadDrafter
from mlx_server.workers.engine.propose.memory import Memory
from mlx_server.workers.engine.propose.worth import Worth
from mlx_server.workers.folders.known_types import drafts, holds_head
from mlx_server.workers.folders.model_files import read_json, read_tensors

DRAFTS_SHARE = 8
"""One part in this many of the prefix cache's memory is for a draft model's KV states."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A folder with what is to propose to a model."""

    folder: Path
    is_head: bool

    @classmethod
    def find(cls, spec: Load, model_folder: Path, report: Callable[[Loading], None]) -> Draft | None:
        """The one that is asked for, downloaded or converted if need be: of the model's own folder, its own head if it
        has one. Raises ModelLoadError."""
        if spec.draft_model is None:
            return None
        folder = resolve(spec.draft_model, Path(spec.cache_dir), report, "draft")
        config, same = read_json(folder, "config.json"), folder.resolve() == model_folder.resolve()
        return cls(folder, drafts(config) or (same and holds_head(config, read_tensors(folder))))

    def suit(self, model: Any) -> list[str]:
        """Have a model's caches forget single tokens; notes on what its caches are now."""
        notes = [f"hidden states are kept beside KV states, for {self.folder.name}"] if self.is_head else []
        if windows := keep_windows_whole(model):
            notes.append(f"KV states of {windows} sliding windows are kept whole, so that drafts can be taken back")
        return notes

    def load(
        self, spec: Load, model: Any, vocab_size: int, tokenizer: Any, report: Callable[[Loading], None]
    ) -> Loaded:
        """Read and try it, for a model with logits of this width. Raises ModelLoadError."""
        if self.is_head:
            head, telling = load_head(spec, self.folder, model, report)
            return Loaded(head, telling, head.footprint)
        draft = load_draft(spec, self.folder, vocab_size, tokenizer, report)
        return Loaded(draft, model, footprint(draft.model))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What proposes, the model as it is to be served with it, and the memory that a row takes for its sake."""

    proposes: DraftModel | DraftHead
    model: Any
    size: Footprint

    def kept_bytes(self, of: int) -> int:
        """Its part of so many bytes for kept prompts."""
        return 0 if isinstance(self.proposes, DraftHead) else of // DRAFTS_SHARE


def proposing(
    draft: DraftModel | DraftHead | None, spec: Load, kept_bytes: int, vocab_size: int, context_length: int | None
) -> MakeRows:
    """What makes batches of rows that guess, of a model with logits of width `vocab_size` and a context of
    `context_length` tokens, if it says so. A draft model, if there is one, keeps prompts in `kept_bytes`."""
    pace = PrefillBudget(spec.max_gap_s, spec.prefill_step_size)
    drafter: Drafter | None = None
    match draft:
        case DraftHead():
            drafter = HeadDrafter(draft, spec.draft_tokens, pace)
        case DraftModel():
            drafter = ModelDrafter(draft, spec.draft_tokens, pace, PrefixStore(kept_bytes))
    return partial(
        ProposingBatch,
        worth=Worth(),
        memory=Memory(),
        drafter=drafter,
        vocab_size=vocab_size,
        context_length=context_length,
    )
