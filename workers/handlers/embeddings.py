"""Models that make vectors of texts, and of pictures where they look at those, through mlx-vlm."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from contextlib import ExitStack
from pathlib import Path

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, ScoreRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import Load, Loading, ModelFacts
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.embed.embedder import Embedder, read_head
from mlx_server.workers.engine.embed.encoder_models import read_config
from mlx_server.workers.engine.embed.engine import EmbeddingEngine, batch_budget
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts, read_input_tokenizer
from mlx_server.workers.engine.embed.inputs.job import Item
from mlx_server.workers.engine.embed.multimodal.embedding_models import read_embedding_model
from mlx_server.workers.engine.embed.multimodal.family import SightedInputs
from mlx_server.workers.engine.embed.requests import EmbeddingMaker, WithMedia
from mlx_server.workers.engine.embed.sentence_files import pooled, read_sentence_files
from mlx_server.workers.engine.loading.loading import evaluate
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.media.media import MediaDecoder, check_kinds
from mlx_server.workers.engine.media.trial_picture import trial_picture
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.context_length import longest_input, shortest
from mlx_server.workers.folders.conversion_notes import read_notes
from mlx_server.workers.folders.encoder_types import model_type
from mlx_server.workers.folders.unread.compared import comparison_note
from mlx_server.workers.handlers.base import DECODERS
from mlx_server.workers.handlers.computing import ComputingHandler

SAMPLE_RATE = 16_000
"""Of sounds, which none of these models hears."""


class EmbeddingsHandler(ComputingHandler):
    """An embedding model: tokenizer, micro-batches, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self._maker: EmbeddingMaker
        self._media: MediaDecoder | None = None

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read and try the model. Raises ModelLoadError."""
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report, "embeddings")
        files = read_sentence_files(folder)
        config = read_config(files.transformer)
        found = read_embedding_model(files.transformer, config)
        modes, pooling_notes = pooled(files, model_type(config), found.pooling)
        model, notes = platform.suit_weights(found.model, spec.cpu_dtype)
        parameter_bytes = evaluate(model, report)
        lower_case = files.lower_case or found.lower_case
        tokenizer, tokenizer_notes = read_input_tokenizer(
            files.transformer, may_be_slow=found.may_be_slow, lower_case=lower_case
        )
        longest = longest_input(files.transformer, config, encodes=True)
        limit = shortest(found.positions, longest, spec.context_length)
        self._texts = InputTexts(tokenizer, found.vocab_size, limit, lower_case=lower_case)
        report(Loading("warming up", computes=True))
        embedder = Embedder(found.hidden_states(model, tokenizer), modes, read_head(files, model))
        dimensions = embedder([Item((0,))]).shape[-1]
        inputs = SightedInputs(None)
        if found.read_inputs is not None:
            self._media = MediaDecoder(spec.media_limits, DECODERS, SAMPLE_RATE)
            inputs = found.read_inputs(self._texts)
            try_pictures(embedder, inputs.with_media, self._media)
        self.engine = EmbeddingEngine(embedder, batch_budget(spec.batch_tokens))
        self._maker = EmbeddingMaker(self._texts, files.prompts, dimensions, inputs.with_media, inputs.frame)
        return ModelFacts(
            rows=spec.rows,
            context_length=limit,
            max_model_len=limit,
            vocab_size=found.vocab_size,
            parameter_bytes=parameter_bytes,
            architecture=model_type(config),
            device=platform.device_name(),
            notes=(
                *read_notes(folder),
                *notes,
                *pooling_notes,
                *found.notes,
                *tokenizer_notes,
                *comparison_note(config, "embeddings"),
            ),
            media=() if inputs.with_media is None else ("image",),
            dimensions=dimensions,
            scoring="embedding_similarity",
        )

    def decode(self, media: Several[Media], abandoned: IsCancelled = never) -> Several[Media]:
        """Pictures as the model's processor takes them. Raises InvalidRequest, also for what is none."""
        check_kinds(media, () if self._media is None else ("image",))
        return media if self._media is None else self._media.decode(media, abandoned)

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Tokenise. Raises InvalidRequest."""
        match request:
            case EmbeddingRequest():
                return [self._maker.vectors(ticket, request)]
            case ScoreRequest():
                return [self._maker.similarities(ticket, request)]
            case _:
                raise InvalidRequest("This model makes embeddings and writes no text.", "model")

    def close(self) -> None:
        """Forget all requests, and end what decodes pictures."""
        if self._media is not None:
            self._media.close()
        super().close()


def try_pictures(embedder: Embedder, with_media: WithMedia | None, files: MediaDecoder) -> None:
    """Look at one. Raises ModelLoadError."""
    if with_media is None:
        return
    with ExitStack() as unless_it_works:
        unless_it_works.callback(files.close)
        try:
            shown = files.decode([trial_picture((96, 64))])
            embedder([with_media(EmbeddingInput("", "input", tuple(shown)), "", None)])
        except InvalidRequest as error:
            raise ModelLoadError(f"the model can't look at pictures: {error.message}") from None
        unless_it_works.pop_all()
