"""Language models through mlx-lm."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.messages import Load, Loading, ModelFacts
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.decode.admission import Admission, footprint
from mlx_server.workers.engine.decode.batch import BatchEngine, MakeRows
from mlx_server.workers.engine.decode.classed import ClassedEngine
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
from mlx_server.workers.engine.decode.joined_trial import may_join
from mlx_server.workers.engine.decode.kv_budget import share_out, usual_bytes
from mlx_server.workers.engine.decode.prefill import can_cut
from mlx_server.workers.engine.decode.probe import Batching, batching_of
from mlx_server.workers.engine.decode.scoring import ScoringEngine
from mlx_server.workers.engine.decode.sequential import SequentialEngine
from mlx_server.workers.engine.decode.warm_up import warm_up
from mlx_server.workers.engine.embed.hidden import inner_states
from mlx_server.workers.engine.embed.text_embedding import embedding_beside
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.kvcache.prefix_files import WAITING_SHARE, PrefixFiles
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.loading.adapters import AdapterError, Adapters
from mlx_server.workers.engine.loading.loading import evaluate, read_model, read_tokenizer
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.propose.trial import may_guess, objection
from mlx_server.workers.engine.ranks.model import LeadingModel
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.side_by_side import SideBySide
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.folders.context_length import longest_input
from mlx_server.workers.handlers.drafting import Draft, proposing
from mlx_server.workers.handlers.quantised_states import QuantisedStates
from mlx_server.workers.handlers.ranks import Leading, free_bytes, join
from mlx_server.workers.handlers.writing import WritingHandler, check_fits, fingerprint, kept_trials, weights_print


class LanguageHandler(WritingHandler):
    """A language model: chat template, tokenizer, batched decoding."""

    def __init__(self, ranks: Leading | None = None) -> None:
        """With `ranks` this process has a part of the model, and the others have the rest."""
        super().__init__()
        self._ranks = ranks

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read, adapt and try the model. Raises ModelLoadError."""
        check_fits(spec)
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report, "lm")
        group = None if self._ranks is None else join(self._ranks, report)
        model, config, notes = read_model(folder, spec.cpu_dtype, group)
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(read_tokenizer, folder, config, spec.chat_template)
            parameter_bytes = evaluate(model, report)
        if self._ranks is not None and group is not None:
            model = LeadingModel(model, group, self._ranks)
            notes.append("on several hosts a model makes no embeddings, and no tokens are guessed")
        if (draft := Draft.find(spec, folder, report)) is not None:
            notes = [*notes, *draft.suit(model)]
        states = None
        if spec.kv_bits is not None:
            states = QuantisedStates(model, spec.kv_bits, packed=not platform.on_cpu())
            notes = [*notes, states.note]
        model_print = fingerprint(config, notes, parameter_bytes, "mlx-lm")
        kept = kept_trials(spec, folder, model_print)
        tokenizer, tokenizer_notes = reading.result()
        notes = [*notes, *tokenizer_notes]
        report(Loading("warming up", computes=True))
        vocab_size = int(model(mx.array([[0]])).shape[-1])
        batching, reason = batching_of(model, spec.rows, vocab_size, kept)
        if batching is not Batching.JOINT:
            notes.append(f"{batching.value}: {reason}")
        guesses = (
            group is None
            and batching is not Batching.NONE
            and may_guess(model, vocab_size, kept, rereads=draft is not None)
        )
        joins = group is None and batching is not Batching.NONE and states is None and may_join(model, vocab_size, kept)
        if states is not None:
            states.hold()
        rows = 1 if batching is Batching.NONE else spec.rows
        served, loaded = model, None
        if draft is not None:
            if not guesses:
                raise ModelLoadError(no_draft(model, vocab_size, batching))
            loaded = draft.load(spec, model, vocab_size, tokenizer, report)
            served = loaded.model
            notes.append(f"{spec.draft_model} proposes tokens where that is faster")
        self._size = size = footprint(served, parameter_bytes)
        if loaded is not None:
            size = size.beside(loaded.size)
        longest = longest_input(folder, config, encodes=False)
        self._bound.limit_bytes, usual = spec.memory_bytes, usual_bytes(longest, size)
        room = share_out(spec, longest, size, self._bound.left(free_bytes(model, spec), usual))
        drafts = loaded.kept_bytes(room.kept) if loaded else 0
        self._prefixes = prefixes = make_prefixes(
            served, spec, f"{model_print}-{weights_print(folder)}", room.kept - drafts
        )
        admission = Admission(size, room.running, self._bound)
        make_rows: MakeRows = DecodeBatch
        if guesses:
            make_rows = proposing(loaded.proposes if loaded else None, spec, drafts, vocab_size, longest)
            self._speculate = spec.speculate
        engine = make_engine(
            served,
            set(tokenizer.eos_token_ids),
            batching,
            spec,
            prefixes,
            admission,
            longest,
            make_rows,
            joins=joins and served is model,
        )
        if not platform.on_cpu() and (failure := warm_up(engine, rows, spec.prefill_step_size)):
            notes.append(failure)
        self._embedding = embedding = embedding_beside(
            None if group else inner_states(model),
            tokenizer._tokenizer,
            vocab_size,
            room.max_model_len,
            min(spec.batch_tokens, spec.prefill_step_size),
            kept=kept,
        )
        engines = SideBySide(engine, *embedding.engines, ScoringEngine(served, engine, prefixes, admission))
        self.engine = classed(engines, model, spec) if spec.adapter_path or spec.adapter_dir else engines
        finds_marks = prefixes.keeps and not can_cut(make_prompt_cache(model))
        output_format, template_notes = self._speak(
            spec, folder, tokenizer, vocab_size, room, None, kept, finds_marks=finds_marks
        )
        self._bound.loaded(prefixes, usual)
        warm_notes = [] if spec.warm_prompt is None else [self._warm(spec.warm_prompt)]
        return ModelFacts(
            rows=rows,
            context_length=longest,
            max_model_len=room.max_model_len,
            kept_tokens=size.tokens_in(prefixes.limit_bytes),
            vocab_size=vocab_size,
            parameter_bytes=parameter_bytes,
            architecture=str(config.get("model_type")),
            device=platform.device_name(),
            fingerprint=model_print,
            notes=(*notes, *room.notes, *platform.size_notes(parameter_bytes), *template_notes, *warm_notes),
            reasoning=output_format.thinking is not None,
            chats=self._chats,
            tools=output_format.format.name,
            grammars=True,
            dimensions=embedding.dimensions,
            scoring="embedding_similarity" if embedding.maker else None,
            sampling=self._prompts.model_defaults,
        )

    def _variant(self, adapter: str | None) -> str:
        """What the model would wear. Raises InvalidRequest."""
        try:
            return self.engine.variant(adapter) if isinstance(self.engine, ClassedEngine) else ""
        except AdapterError as error:
            raise InvalidRequest(str(error), "adapters") from None

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Render and tokenise. Raises InvalidRequest."""
        sequences = super().prepare(ticket, request)
        if isinstance(request, GenerationRequest):
            for sequence in sequences:
                sequence.adapter = request.adapter
                if request.draft is not None:
                    sequence.draft_tokens = request.draft.tokens if request.draft.model is None else 0
        return sequences


def make_engine(
    model: Any,
    stop_tokens: set[int],
    batching: Batching,
    spec: Load,
    prefixes: PrefixStore,
    admission: Admission,
    context_length: int | None,
    make_rows: MakeRows,
    *,
    joins: bool,
) -> Engine:
    """The engine for what the model takes."""
    if batching is Batching.NONE:
        return SequentialEngine(
            model, stop_tokens, prefill_step_size=spec.prefill_step_size, prefixes=prefixes, admission=admission
        )
    return BatchEngine(
        model,
        stop_tokens,
        rows=spec.rows,
        joint_prefill=batching is Batching.JOINT,
        prefill_step_size=spec.prefill_step_size,
        prefixes=prefixes,
        gap_s=spec.max_gap_s,
        admission=admission,
        context_length=context_length,
        make_rows=make_rows,
        joins=joins,
    )


def no_draft(model: Any, vocab_size: int, batching: Batching) -> str:
    """Why a draft model is of no use to a model."""
    reason = batching.value if batching is Batching.NONE else objection(model, vocab_size, rereads=True)
    return f"--draft-model is no use here: {reason}"


def classed(engine: Engine, model: Any, spec: Load) -> ClassedEngine:
    """An engine for sequences with adapters. Raises ModelLoadError if the default one can't be used."""
    adapters = Adapters(model, *(Path(path) if path else None for path in (spec.adapter_path, spec.adapter_dir)))
    try:
        adapters.use(None)
    except AdapterError as error:
        raise ModelLoadError(str(error)) from None
    return ClassedEngine(engine, adapters)


def make_prefixes(model: Any, spec: Load, model_print: str, limit_bytes: int) -> PrefixStore:
    """What is kept of prompts, in so much memory and, if that is asked for, on disk. Raises ModelLoadError."""
    files = None
    if spec.prompt_cache_dir is not None:
        folder = Path(spec.prompt_cache_dir) / model_print
        try:
            files = PrefixFiles(folder, spec.prompt_cache_bytes, model, waiting_bytes=limit_bytes // WAITING_SHARE)
        except OSError as error:
            raise ModelLoadError(f"--prompt-cache-dir can't be used: {one_line(error)}") from None
    return PrefixStore(limit_bytes, checkpoints=True, second=files)
