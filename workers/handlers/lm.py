"""Language models through mlx-lm."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec

from mlx_server.schemas.embedding import Work
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import GenerationRequest, Prompt, Sampling, ToolUse
from mlx_server.schemas.messages import Load, Loading, ModelFacts
from mlx_server.workers.engine import platform
from mlx_server.workers.engine.answer import Answer
from mlx_server.workers.engine.answers import AnswerMaker
from mlx_server.workers.engine.base import Engine
from mlx_server.workers.engine.batch import BatchEngine
from mlx_server.workers.engine.companions import accompanied
from mlx_server.workers.engine.computation import Computation
from mlx_server.workers.engine.computed import ComputedAnswer
from mlx_server.workers.engine.dialect import Dialect
from mlx_server.workers.engine.hidden import inner_states
from mlx_server.workers.engine.loading import evaluate, read_context_length, read_model, read_tokenizer
from mlx_server.workers.engine.probe import Batching, probe
from mlx_server.workers.engine.prompts import PromptMaker
from mlx_server.workers.engine.render import TemplateDefaults
from mlx_server.workers.engine.resolve import one_line, resolve
from mlx_server.workers.engine.scoring import EchoingEngine
from mlx_server.workers.engine.sequential import SequentialEngine
from mlx_server.workers.engine.text_embedding import TextEmbedding, embedding_beside
from mlx_server.workers.engine.vocabulary import Vocabulary
from mlx_server.workers.handlers.base import ModelLoadError
from mlx_server.workers.sequence import Key, Produced, Sequence

log = logging.getLogger(__name__)


class LanguageHandler:
    """A language model: chat template, tokenizer, batched decoding."""

    def __init__(self) -> None:
        self._answers: AnswerMaker
        self._prompts: PromptMaker
        self._embedding: TextEmbedding
        self._engine: Engine

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read, adapt and try the model. Raises ModelLoadError."""
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report)
        model, config, notes = read_model(folder)
        parameter_bytes = evaluate(model, report)
        tokenizer = read_tokenizer(folder, config, spec.chat_template)
        report(Loading("warming up"))
        vocab_size = int(model(mx.array([[0]])).shape[-1])
        batching, reason = probe(model, spec.rows, vocab_size)
        if batching is not Batching.JOINT:
            notes.append(f"{batching.value}: {reason}")
        engine = make_engine(model, set(tokenizer.eos_token_ids), batching, spec)
        context_length = read_context_length(config)
        self._embedding = embedding = embedding_beside(
            EchoingEngine(model, engine),
            inner_states(model),
            tokenizer._tokenizer,
            vocab_size,
            context_length,
            min(spec.batch_tokens, spec.prefill_step_size),
        )
        self._engine, more_notes = accompanied(embedding.engine, model, tokenizer, spec, report)
        vocabulary, dialect = Vocabulary(tokenizer, vocab_size), Dialect.of(tokenizer)
        self._answers = AnswerMaker(tokenizer, vocab_size, vocabulary, dialect)
        self._prompts = PromptMaker(
            copy.deepcopy(tokenizer),
            vocab_size,
            context_length,
            read_sampling_defaults(folder),
            vocabulary,
            dialect,
            TemplateDefaults(spec.chat_template_args, spec.use_default_chat_template),
        )
        check_templates(self._prompts, spec)
        return ModelFacts(
            rows=1 if batching is Batching.NONE else spec.rows,
            context_length=context_length,
            vocab_size=vocab_size,
            parameter_bytes=parameter_bytes,
            architecture=str(config.get("model_type")),
            device=platform.device_name(),
            fingerprint=fingerprint(folder, parameter_bytes),
            notes=(*notes, *more_notes),
            reasoning=dialect.thinking is not None,
            tools=dialect.format.name,
            grammars=True,
            dimensions=embedding.dimensions,
            scoring="embedding_similarity" if embedding.maker else None,
        )

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Render and tokenise. Raises InvalidRequest."""
        if not isinstance(request, GenerationRequest):
            return [self._embedding.prepare(ticket, request)]
        sequences = self._prompts.sequences(ticket, request)
        for sequence in sequences:
            sequence.adapter = request.adapter
            sequence.draft_tokens = (request.draft.tokens or 0) if request.draft else 0
        return sequences

    def tokens(self, prompt: Prompt, tool_use: ToolUse) -> list[int]:
        """Render and tokenise. Raises InvalidRequest."""
        return self._prompts.tokens(prompt, tool_use)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's entries."""
        return self._prompts.pieces(ids)

    def text(self, ids: Iterable[int]) -> str:
        """Their text. Raises InvalidRequest."""
        return self._prompts.text(ids)

    def answer_stream(self, sequence: Sequence) -> Answer | ComputedAnswer:
        """A stream for one sequence."""
        if isinstance(sequence, Computation):
            return ComputedAnswer(sequence)
        return self._answers.answer(sequence)

    @property
    def busy(self) -> bool:
        """Some sequence wants a step."""
        return self._engine.busy

    def add(self, sequence: Sequence) -> None:
        """Take a sequence in."""
        self._engine.add(sequence)

    def remove(self, key: Key) -> None:
        """Drop a sequence."""
        self._engine.remove(key)

    def step(self) -> list[Produced]:
        """One step of the engine."""
        return self._engine.step()

    def close(self) -> None:
        """Release the generator; the memory goes with the process."""
        self._prompts.close()
        self._engine.close()
        mx.synchronize()


def fingerprint(folder: Path, parameter_bytes: int) -> str:
    """Names what decides what a seed gives: the model, and the library and the device that compute it."""
    facts = f"{parameter_bytes} {version('mlx')} {version('mlx-lm')} {platform.device_name()}"
    return hashlib.sha256((folder / "config.json").read_bytes() + facts.encode()).hexdigest()[:10]


def make_engine(model: Any, stop_tokens: set[int], batching: Batching, spec: Load) -> Engine:
    """The engine for what the model takes."""
    if batching is Batching.NONE:
        return SequentialEngine(model, stop_tokens, prefill_step_size=spec.prefill_step_size)
    return BatchEngine(
        model,
        stop_tokens,
        rows=spec.rows,
        joint_prefill=batching is Batching.JOINT,
        prefill_step_size=spec.prefill_step_size,
    )


def check_templates(prompts: PromptMaker, spec: Load) -> None:
    """Find out at the start what the operator got wrong. Raises ModelLoadError."""
    if spec.chat_template is None and not spec.chat_template_args:
        return
    try:
        prompts.renderer.check_defaults()
    except InvalidRequest as error:
        raise ModelLoadError(one_line(error)) from None


def read_sampling_defaults(folder: Path) -> Sampling:
    """What the model's authors recommend, from generation_config.json."""
    try:
        config = json.loads((folder / "generation_config.json").read_text())
        known = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        return msgspec.convert({k: config[k] for k in known if config.get(k) is not None}, Sampling)
    except (OSError, ValueError, AttributeError) as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("generation_config.json is not used: %s", one_line(error))
        return Sampling()
