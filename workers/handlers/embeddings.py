"""Models that make vectors of texts, through mlx-vlm's encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_server.schemas.embedding import EmbeddingRequest, ScoreRequest, Work
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.messages import Load, Loading, ModelFacts
from mlx_server.workers.engine import platform
from mlx_server.workers.engine.computation import Item
from mlx_server.workers.engine.embedder import Embedder, encoder_states, read_head
from mlx_server.workers.engine.embedding import EmbeddingEngine
from mlx_server.workers.engine.embeddings_of import EmbeddingMaker
from mlx_server.workers.engine.encoders import (
    ARCHITECTURES,
    caveats,
    is_classifier,
    model_type,
    positions,
    read_config,
    read_encoder,
)
from mlx_server.workers.engine.input_texts import InputTexts, read_input_tokenizer, smallest
from mlx_server.workers.engine.loading import evaluate
from mlx_server.workers.engine.passes import suited
from mlx_server.workers.engine.resolve import resolve
from mlx_server.workers.engine.sentence_files import read_sentence_files
from mlx_server.workers.handlers.base import ModelLoadError
from mlx_server.workers.handlers.computing import ComputingHandler
from mlx_server.workers.sequence import Sequence


class EmbeddingsHandler(ComputingHandler):
    """An embedding model: tokenizer, micro-batches, pooling."""

    def __init__(self) -> None:
        self._maker: EmbeddingMaker

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read and try the model. Raises ModelLoadError."""
        platform.configure()
        platform.keep_buffers()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report)
        files = read_sentence_files(folder)
        config = read_config(files.transformer)
        if is_classifier(config):
            raise ModelLoadError(
                f"{folder} is a cross-encoder, which makes no vectors: serve it with --model-type rerank"
            )
        model, notes = platform.suit_weights(read_encoder(files.transformer, config, beside=folder))
        parameter_bytes = evaluate(model, report)
        tokenizer = read_input_tokenizer(files.transformer)
        limit = smallest(positions(config), files.max_tokens, tokenizer.model_max_length)
        vocab_size = int(config["vocab_size"])
        self._texts = InputTexts(tokenizer, vocab_size, limit, lower_case=files.lower_case)
        report(Loading("warming up"))
        modes = files.modes or (ARCHITECTURES[model_type(config)].pooling,)
        embedder = Embedder(encoder_states(model, config), modes, read_head(files, model))
        dimensions = embedder([Item((0,))]).shape[-1]
        self._engine = EmbeddingEngine(suited(embedder), spec.batch_tokens)
        self._maker = EmbeddingMaker(self._texts, files.prompts, dimensions)
        return ModelFacts(
            rows=spec.rows,
            context_length=limit,
            vocab_size=vocab_size,
            parameter_bytes=parameter_bytes,
            architecture=model_type(config),
            device=platform.device_name(),
            notes=(*notes, *caveats(config)),
            dimensions=dimensions,
            scoring="embedding_similarity",
        )

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Tokenise. Raises InvalidRequest."""
        match request:
            case EmbeddingRequest():
                return [self._maker.vectors(ticket, request)]
            case ScoreRequest():
                return [self._maker.similarities(ticket, request)]
            case _:
                raise InvalidRequest("This model makes embeddings and writes no text.", "model")
