"""Pairs for a language model that was trained to say whether a document answers a query: yes or no.

The texts round a pair are those of Qwen3-Reranker's model card.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Several
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_server.schemas.internal.embedding import Pair, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.embed.embedder import HiddenStates
from mlx_server.workers.engine.embed.engine import Compute
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts, PairLimits, document_share
from mlx_server.workers.engine.embed.inputs.job import Item, Rows
from mlx_server.workers.engine.embed.pooling import last
from mlx_server.workers.errors import ModelLoadError

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


class JudgedPairs:
    """Makes the inputs of such a model. Tokenizer's thread only, once made."""

    def __init__(self, tokenizer: Any, texts: InputTexts) -> None:
        self._backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._texts = texts
        self._before, self._after = (tuple(self._encode(text).ids) for text in (BEFORE, AFTER))

    def items(self, pairs: Several[Pair], truncation: Truncation | None, instruction: str | None) -> list[Item]:
        """Each pair as a conversation that is to be answered. Raises InvalidRequest."""
        limits = self._texts.pair_limits(truncation)
        readable = (self._texts.readable(pair, limits, truncation) for pair in pairs)
        return [self._item(pair, limits, truncation, instruction or INSTRUCTION) for pair in readable]

    def _item(self, pair: Pair, limits: PairLimits, truncation: Truncation | None, instruction: str) -> Item:
        question = f"<Instruct>: {instruction}\n<Query>: {pair.query}\n<Document>: "
        encoding = self._encode(question + pair.document)
        ids = list(encoding.ids)
        asked = sum(1 for start, end in encoding.offsets if end <= len(question))
        own, taken = len(ids) - asked, len(self._before) + asked + len(self._after)
        stays = document_share(own, taken, limits, truncation, pair)
        if stays < own:
            document = ids[asked:]
            cuts_end = truncation is None or truncation.keep == "start"
            ids = ids[:asked] + (document[:stays] if cuts_end else document[-stays:])
        return Item(self._texts.checked([*self._before, *ids, *self._after], pair.document_param))

    def _encode(self, text: str) -> Any:
        return self._backend.encode(text, add_special_tokens=False)


def yes_or_no(model: Any, hidden_states: HiddenStates, tokenizer: Any) -> Compute:
    """The logit of "yes" over "no" in the place of the answer. Raises ModelLoadError."""
    answers = [tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
    if None in answers or tokenizer.unk_token_id in answers:
        raise ModelLoadError('the model can\'t be a reranker: its tokenizer has no tokens "yes" and "no"')
    head = getattr(model, "lm_head", None) or model.model.embed_tokens.as_linear

    def compute(items: Several[Item]) -> Rows:
        logits = head(last(*hidden_states(items))).astype(mx.float32)
        yes, no = answers
        return np.array(logits[:, yes : yes + 1] - logits[:, no : no + 1])

    return compute


def no_instruction(instruction: str | None) -> None:
    """Classifiers take none. Raises InvalidRequest."""
    if instruction is not None:
        raise InvalidRequest("`instruction`: this reranker takes none.", "instruction")
