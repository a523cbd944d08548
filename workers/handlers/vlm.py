"""Models that look at pictures, through mlx-vlm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from collections.abc import Sequence as Several
from contextlib import ExitStack
from pathlib import Path

from mlx_server.schemas.embedding import Work
from mlx_server.schemas.generation import GenerationRequest, Media
from mlx_server.schemas.messages import Load, Loading, ModelFacts
from mlx_server.workers.abandoned import Abandoned, never
from mlx_server.workers.engine import platform
from mlx_server.workers.engine.answer import Answer
from mlx_server.workers.engine.answers import AnswerMaker
from mlx_server.workers.engine.computation import Computation
from mlx_server.workers.engine.computed import ComputedAnswer
from mlx_server.workers.engine.dialect import Dialect
from mlx_server.workers.engine.loading import evaluate, read_context_length, read_tokenizer
from mlx_server.workers.engine.media import MediaDecoder
from mlx_server.workers.engine.prompts import PromptMaker
from mlx_server.workers.engine.render import TemplateDefaults
from mlx_server.workers.engine.resolve import resolve
from mlx_server.workers.engine.scoring import EchoingEngine
from mlx_server.workers.engine.text_embedding import TextEmbedding, embedding_beside
from mlx_server.workers.engine.vision.batch import VisionEngine
from mlx_server.workers.engine.vision.hidden import seeing_states
from mlx_server.workers.engine.vision.inputs import InputReader
from mlx_server.workers.engine.vision.loading import read_vision_model
from mlx_server.workers.engine.vision.places import placeholders
from mlx_server.workers.engine.vision.senses import Senses
from mlx_server.workers.engine.vision.shown_inputs import shown_inputs
from mlx_server.workers.engine.vision.text_model import TextModel
from mlx_server.workers.engine.vision.trial import try_model
from mlx_server.workers.engine.vocabulary import Vocabulary
from mlx_server.workers.handlers.base import DECODERS, ModelLoadError
from mlx_server.workers.handlers.writing import WritingHandler, check_templates, fingerprint, read_sampling_defaults
from mlx_server.workers.sequence import Sequence


class VisionHandler(WritingHandler):
    """A model that takes text, pictures and sounds: chat template, processor, batched decoding."""

    def __init__(self) -> None:
        super().__init__()
        self._embedding: TextEmbedding
        self._inputs: InputReader
        self._media: MediaDecoder

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read, adapt and try the model. Raises ModelLoadError."""
        if spec.adapter_path or spec.adapter_dir or spec.draft_model:
            raise ModelLoadError("models that look at pictures take neither adapters nor a draft model")
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report)
        model, processor, config, notes = read_vision_model(folder)
        parameter_bytes = evaluate(model, report)
        tokenizer = read_tokenizer(folder, config, spec.chat_template)
        report(Loading("warming up"))
        text_model = TextModel(model)
        vocab_size = text_model.vocab_size()
        vocabulary, dialect = Vocabulary(tokenizer, vocab_size), Dialect.of(tokenizer)
        self._answers = AnswerMaker(tokenizer, vocab_size, vocabulary, dialect)
        context_length = read_context_length(config)
        self._inputs = inputs = InputReader(processor, model.config, placeholders(model, config))
        self._media = MediaDecoder(spec.media_limits, DECODERS, inputs.sample_rate)
        self._prompts = PromptMaker(
            copy.deepcopy(tokenizer),
            vocab_size,
            context_length,
            read_sampling_defaults(folder),
            vocabulary,
            dialect,
            TemplateDefaults(spec.chat_template_args, spec.use_default_chat_template),
            inputs,
        )
        check_templates(self._prompts, spec)
        with ExitStack() as unless_it_works:
            unless_it_works.callback(self._media.close)
            sequences, senseless = Senses(model, self._prompts, self._media, inputs).sequences()
            tried = try_model(
                model,
                sequences,
                rows=spec.rows,
                feature_bytes=spec.feature_cache_bytes,
                prefix_bytes=spec.prefix_cache_bytes,
            )
            unless_it_works.pop_all()
        engine = VisionEngine(
            model,
            set(tokenizer.eos_token_ids),
            rows=tried.rows,
            prefill_step_size=spec.prefill_step_size,
            tower=tried.tower,
            prefixes=tried.prefixes,
        )
        self._embedding = embedding = embedding_beside(
            EchoingEngine(text_model, engine),
            seeing_states(model, tried.tower),
            tokenizer._tokenizer,
            vocab_size,
            context_length,
            min(spec.batch_tokens, spec.prefill_step_size),
            shown_inputs(self._prompts, context_length),
        )
        self._engine = embedding.engine
        return ModelFacts(
            rows=tried.rows,
            context_length=context_length,
            vocab_size=vocab_size,
            parameter_bytes=parameter_bytes,
            architecture=str(config.get("model_type")),
            device=platform.device_name(),
            fingerprint=fingerprint(folder, parameter_bytes, "mlx-vlm"),
            notes=(*notes, *senseless, *tried.notes),
            reasoning=dialect.thinking is not None,
            tools=dialect.format.name,
            grammars=True,
            media=inputs.kinds,
            dimensions=embedding.dimensions,
            scoring="embedding_similarity" if embedding.maker else None,
        )

    def decode(self, media: Several[Media], abandoned: Abandoned = never) -> Several[Media]:
        """Pictures and sounds in the place of files. Raises InvalidRequest."""
        self._inputs.check(media)
        return self._media.decode(media, abandoned)

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Render, tokenise and process pictures. Raises InvalidRequest."""
        if not isinstance(request, GenerationRequest):
            return [self._embedding.prepare(ticket, request)]
        return self._prompts.sequences(ticket, request)

    def answer_stream(self, sequence: Sequence) -> Answer | ComputedAnswer:
        """A stream for one sequence."""
        if isinstance(sequence, Computation):
            return ComputedAnswer(sequence)
        return self._answers.answer(sequence)

    def close(self) -> None:
        """Release what is held, and end the processes that decode."""
        self._media.close()
        super().close()
