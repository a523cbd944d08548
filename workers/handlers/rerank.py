"""Rerankers: models that read a query and a document together and say how relevant the one is to the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_server.schemas.internal.embedding import ScoreRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import CpuDtype, Load, Loading, ModelFacts
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.embed.encoder_models import read_config, read_encoder
from mlx_server.workers.engine.embed.engine import Compute, EmbeddingEngine, batch_budget
from mlx_server.workers.engine.embed.hidden import inner_states
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts, gives_types, read_input_tokenizer
from mlx_server.workers.engine.embed.inputs.job import Item, computation, distinct
from mlx_server.workers.engine.embed.results import Relevance
from mlx_server.workers.engine.embed.score_activations import Activation, read_activation
from mlx_server.workers.engine.loading.loading import evaluate, read_model
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.rerank.cross_encoder import check_labels, logit_of
from mlx_server.workers.engine.rerank.llm_reranker import JudgedPairs, no_instruction, yes_or_no
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.context_length import longest_input, shortest
from mlx_server.workers.folders.encoder_types import ENCODERS, JUDGES, model_type, no_scores
from mlx_server.workers.folders.unread.compared import comparison_note
from mlx_server.workers.handlers.computing import ComputingHandler


class RerankHandler(ComputingHandler):
    """A cross-encoder with a classifier, or a language model that says yes or no."""

    def __init__(self) -> None:
        super().__init__()
        self._judged: JudgedPairs | None = None
        self._activation: Activation

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read and try the model. Raises ModelLoadError."""
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report, "rerank")
        config = read_config(folder)
        check_kind(folder, config)
        self._activation = read_activation(folder, config)
        model, notes = self._read(folder, config, spec.cpu_dtype)
        parameter_bytes = evaluate(model, report)
        tokenizer, tokenizer_notes = read_input_tokenizer(folder)
        limit = shortest(longest_input(folder, config, encodes=True), spec.context_length)
        vocab_size = int(config["vocab_size"])
        types = config.get("type_vocab_size", 1) > 1 and gives_types(folder, tokenizer)
        self._texts = InputTexts(tokenizer, vocab_size, limit, types=types)
        report(Loading("warming up", computes=True))
        compute = self._computing(model, config, tokenizer)
        compute([Item((0,))])
        self.engine = EmbeddingEngine(compute, batch_budget(spec.batch_tokens))
        return ModelFacts(
            rows=spec.rows,
            context_length=limit,
            max_model_len=limit,
            vocab_size=vocab_size,
            parameter_bytes=parameter_bytes,
            architecture=model_type(config),
            device=platform.device_name(),
            notes=(*notes, *tokenizer_notes),
            scoring="cross_encoder",
        )

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Tokenise. Raises InvalidRequest."""
        if not isinstance(request, ScoreRequest):
            raise InvalidRequest("This model scores pairs of texts, and does nothing else.", "model")
        if self._judged is not None:
            items = self._judged.items(request.pairs, request.truncation, request.instruction)
        else:
            no_instruction(request.instruction)
            items = self._texts.pairs(request.pairs, request.truncation)
        # Twice the same would not have the very same score where the batches differ.
        items, numbers = distinct(items)
        return [computation(ticket, items, Relevance(ticket, numbers, self._activation))]

    def _read(self, folder: Path, config: dict[str, Any], cpu_dtype: CpuDtype) -> tuple[Any, list[str]]:
        if model_type(config) in JUDGES:
            model, _, notes = read_model(folder, cpu_dtype)
            return model, notes
        encoder = read_encoder(folder, config, "SequenceClassificationModel")
        model, notes = platform.suit_weights(encoder, cpu_dtype)
        return model, [*notes, *comparison_note(config, "rerankers")]

    def _computing(self, model: Any, config: dict[str, Any], tokenizer: Any) -> Compute:
        if model_type(config) not in JUDGES:
            return logit_of(model, config)
        self._judged = JudgedPairs(tokenizer, self._texts)
        states = inner_states(model)
        assert states is not None
        return yes_or_no(model, states, tokenizer)


def check_kind(folder: Path, config: dict[str, Any]) -> None:
    """A reranker, and one that is served. Raises ModelLoadError."""
    if (reason := no_scores(config, pooled=(folder / "1_Pooling").is_dir())) is not None:
        raise ModelLoadError(f"{folder} {reason}")
    if model_type(config) in ENCODERS:
        check_labels(config)
