"""A draft model: a small one that proposes tokens to the model that is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_server.schemas.internal.messages import Load, Loading
from mlx_server.workers.engine.kvcache.whole_windows import keep_windows_whole
from mlx_server.workers.engine.loading.loading import evaluate, read_model, read_tokenizer
from mlx_server.workers.engine.propose.trial import objection
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.context_length import longest_input


class DraftModel:
    """A model whose logits are as wide as those of the model that it proposes to. Engine thread only."""

    def __init__(self, model: Any, vocab_size: int, width: int, context_length: int | None) -> None:
        """`vocab_size` is the width of its own logits, `width` that of the other model's; `context_length` is in
        tokens, None where its config does not say."""
        self.model = model
        self.context_length = context_length
        self._vocab_size = vocab_size
        self._width = width

    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        """Logits [B, T, width] after each of the token ids [B, T], of which those that it does not know are clamped:
        embeddings look them up unchecked."""
        return fitted(self.model(mx.minimum(tokens, self._vocab_size - 1), cache=cache), self._width)


def load_draft(spec: Load, folder: Path, width: int, tokenizer: Any, report: Callable[[Loading], None]) -> DraftModel:
    """Load a draft model for a model with logits of this `width`, and try it. Raises ModelLoadError."""
    draft, config, _ = read_model(folder, spec.cpu_dtype)
    evaluate(draft, report)
    keep_windows_whole(draft)
    draft_tokenizer, _ = read_tokenizer(folder, config)
    if (other := difference(draft_tokenizer.get_vocab(), tokenizer.get_vocab())) is not None:
        raise ModelLoadError(f"{folder} can't be this model's draft: their vocabularies differ ({other})")
    vocab_size = int(draft(mx.array([[0]])).shape[-1])
    if (reason := objection(draft, vocab_size)) is not None:
        raise ModelLoadError(f"{folder} can't be a draft model: {reason}")
    mx.clear_cache()
    return DraftModel(draft, vocab_size, width, longest_input(folder, config, encodes=False))


def difference(theirs: dict[str, int], ours: dict[str, int]) -> str | None:
    """The first token id that means two things, in words; None if there is none. Tokens that only one vocabulary has do
    no harm."""
    names = {id_: name for name, id_ in ours.items()}
    for name, id_ in sorted(theirs.items(), key=lambda item: item[1]):
        if names.get(id_, name) != name:
            return f"token {id_} is {name!r} there and {names[id_]!r} here"
    return None


def fitted(logits: mx.array, width: int) -> mx.array:
    """Logits [B, T, V] as [B, T, width], cut or padded with -inf, same dtype: models of a family pad their vocabularies
    differently.

    A key's draw depends on the width: only equal widths draw alike.
    """
    missing = width - logits.shape[-1]
    if missing <= 0:
        return logits[..., :width]
    return mx.pad(logits, [(0, 0), (0, 0), (0, missing)], constant_values=mx.array(-mx.inf, logits.dtype))
