"""Speculative decoding: a draft model proposes tokens, the model checks all of them in a single step.

Every token that comes out is the model's own choice after the tokens before it: its most probable one, or its draw with
that position's key. A proposal only saves a step, if it is that same token. So the answer is the one that decoding
without a draft model gives, seed for seed, up to rounding (several tokens in one step round differently from one). The
draft model draws with the same keys, which makes its proposals likelier to be right.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlx_server.schemas.internal.messages import FinishReason
from mlx_server.workers.engine.decode.draft import Chooser, DraftModel, Proposer, Reader
from mlx_server.workers.engine.decode.one_at_a_time import OneAtATimeEngine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sampling.logprobs import Report, log_softmax, report
from mlx_server.workers.engine.sampling.sampling import end_tokens, make_processors
from mlx_server.workers.engine.sequence import Sequence, Token


class SpeculativeEngine(OneAtATimeEngine):
    """One prefill chunk of either model in a step, or one proposal and its check: one token or more.

    Once the draft model's context is full, the model goes on alone. Engine thread only.
    """

    def __init__(
        self,
        model: Any,
        draft: DraftModel,
        stop_tokens: set[int],
        *,
        prefill_step_size: int,
        prefixes: PrefixStore | None = None,
        draft_prefixes: PrefixStore | None = None,
    ) -> None:
        """`prefixes` is the model's prefix cache, `draft_prefixes` the draft model's."""
        kept, drafts_kept = prefixes or PrefixStore(0), draft_prefixes or PrefixStore(0)
        self._drafts_kept = drafts_kept

        def start(sequence: Sequence) -> _Run:
            reader = Reader(model, sequence, kept)
            sequence.found(reader.length)
            return _Run(sequence, reader, Proposer(draft, sequence, drafts_kept), stop_tokens)

        super().__init__(start, prefill_step_size=prefill_step_size)

    def close(self) -> None:
        """Release all sequences and the draft model's prefix cache."""
        super().close()
        self._drafts_kept.close()


class _Run:
    """A sequence between two steps. The model has read all of it but the last token, the draft model that or less."""

    def __init__(self, sequence: Sequence, model: Reader, draft: Proposer, stop_tokens: set[int]) -> None:
        self.sequence = sequence
        self._model = model
        self._draft = draft
        self._chooser = Chooser(sequence)
        self._processors = make_processors(sequence, stop_tokens)
        self._ends = end_tokens(sequence, stop_tokens)

    def advance(self, chunk: int) -> list[Token]:
        """Read one chunk; the next tokens once both models have read the prompt."""
        context = self.sequence.context
        count = self._proposals(len(context))
        if (behind := context[self._model.length : -1]) != []:
            self._model.prefill(behind[:chunk])
            self.sequence.read = self._model.length
            return []
        if count and len(behind := context[self._draft.reader.length : -1]) > 1:
            self._draft.reader.prefill(self._draft.known(behind[:chunk]))
            return []
        return self._check(context, count)

    def leave(self) -> None:
        """Cache what has been read: nothing more comes."""
        self._model.keep()
        self._draft.reader.keep()

    def _proposals(self, context: int) -> int:
        """How many tokens the draft model proposes next."""
        sequence = self.sequence
        count = max(0, min(sequence.draft_tokens, sequence.remaining - 1, self._draft.room(context)))
        unread = context - self._model.length, context - self._draft.reader.length
        may = self._model.may_forget(unread[0] + count) and self._draft.reader.may_forget(unread[1] + count)
        return count if may else 0

    def _check(self, context: list[int], count: int) -> list[Token]:
        feed = mx.array(context[-1:])
        if count:
            feed = mx.concatenate([feed, self._draft.propose(context, count, self._chooser)])
        logits = self._model.read(feed)
        proposed = feed[1:]
        chosen, logits = self._choose(context, logits, proposed)
        known = len(context) + len(chosen) - 1
        self._model.forget_after(known)
        self._draft.reader.forget_after(known)
        agreed = [token == own for token, own in zip(proposed.tolist(), chosen, strict=False)]  # type: ignore[arg-type]
        self.sequence.drafted += count
        return self._emit(chosen, logits, agreed)

    def _choose(self, context: list[int], logits: mx.array, proposed: mx.array) -> tuple[list[int], mx.array]:
        """The model's own tokens, up to the first that was not proposed, and the logits [K, V] that they were chosen
        by, from the logits [T, V] of the last token and the proposed ones [T - 1].

        Processors follow a sequence token by token and can't go back, so they never see a place behind a wrong guess.
        """
        place = len(context)
        if self._processors is None:
            own = self._chooser.choose(logits, place)
            mx.eval(own, proposed)
            chosen: list[int] = own.tolist()  # type: ignore[assignment]
            guesses: list[int] = proposed.tolist()  # type: ignore[assignment]
            agreed = next((i for i, guess in enumerate(guesses) if guess != chosen[i]), len(guesses))
            return chosen[: agreed + 1], logits[: agreed + 1]
        chosen, rows = [], []
        for i, guess in enumerate([*proposed.tolist(), None]):  # type: ignore[misc]
            row = self._processors(mx.array(context + chosen), logits[i : i + 1])
            if self._processors.error:
                raise self._processors.error
            rows.append(row)
            chosen.append(int(self._chooser.choose(row, place + i).item()))  # type: ignore[arg-type]
            if chosen[-1] != guess or chosen[-1] in self._ends:
                break
        return chosen, mx.concatenate(rows)

    def _emit(self, chosen: list[int], logits: mx.array, agreed: list[bool]) -> list[Token]:
        sequence = self.sequence
        tokens = []
        reports = self._reports(chosen, logits)
        for i, token in enumerate(chosen):
            sequence.emitted.append(token)
            sequence.accepted += sum(agreed[i : i + 1])
            finish: FinishReason | None = None if sequence.remaining else "length"
            if token in self._ends:
                finish = "stop"
            tokens.append(Token(sequence.key, token, finish, *reports[i]))
            if finish is not None:
                break
        return tokens

    def _reports(self, chosen: list[int], logits: mx.array) -> list[Report] | list[tuple[()]]:
        """The reports on tokens chosen by logits [K, V]; empty ones where no log-probabilities are wanted."""
        most = self.sequence.logprobs
        if most is None:
            return [()] * len(chosen)
        return report(log_softmax(logits), chosen, most)
