"""Models that look at pictures, through mlx-vlm."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from contextlib import ExitStack
from pathlib import Path

from mlx_server.schemas.internal.generation import Media, MediaKind
from mlx_server.schemas.internal.messages import Load, Loading, ModelFacts
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.decode.admission import Admission, footprint
from mlx_server.workers.engine.decode.kv_budget import share_out, usual_bytes
from mlx_server.workers.engine.decode.scoring import ScoringEngine
from mlx_server.workers.engine.embed.multimodal.vision_hidden import seeing_states
from mlx_server.workers.engine.embed.multimodal.vision_inputs import conversation_inputs
from mlx_server.workers.engine.embed.text_embedding import embedding_beside
from mlx_server.workers.engine.loading.loading import evaluate, read_tokenizer
from mlx_server.workers.engine.loading.resolve import resolve
from mlx_server.workers.engine.media.media import MediaDecoder
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.side_by_side import SideBySide
from mlx_server.workers.engine.vision.batch import VisionEngine
from mlx_server.workers.engine.vision.capability_probe import Senses
from mlx_server.workers.engine.vision.inputs import InputReader
from mlx_server.workers.engine.vision.loading import read_vision_model
from mlx_server.workers.engine.vision.placeholders import placeholders
from mlx_server.workers.engine.vision.text_model import TextModel
from mlx_server.workers.engine.vision.trial import try_model
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.context_length import longest_input
from mlx_server.workers.handlers.base import DECODERS
from mlx_server.workers.handlers.writing import WritingHandler, check_fits, fingerprint, kept_trials


class VisionHandler(WritingHandler):
    """A model that takes text, pictures and sounds: chat template, processor, batched decoding."""

    def __init__(self) -> None:
        super().__init__()
        self._inputs: InputReader
        self._media: MediaDecoder

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read, adapt and try the model. Raises ModelLoadError."""
        if spec.adapter_path or spec.adapter_dir or spec.draft_model:
            raise ModelLoadError("models that look at pictures take neither adapters nor a draft model")
        if spec.kv_bits is not None:
            raise ModelLoadError("--kv-bits: KV states of models that look at pictures can't be quantised")
        check_fits(spec)
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report, "vlm")
        model, processor, config, notes = read_vision_model(folder, spec.cpu_dtype)
        parameter_bytes = evaluate(model, report)
        model_print = fingerprint(config, notes, parameter_bytes, "mlx-vlm")
        kept = kept_trials(spec, folder, model_print)
        tokenizer, tokenizer_notes = read_tokenizer(folder, config, spec.chat_template)
        notes += [note for note in tokenizer_notes if note not in notes]
        report(Loading("warming up", computes=True))
        text_model = TextModel(model)
        vocab_size = text_model.vocab_size()
        self._size = size = footprint(text_model)
        longest = longest_input(folder, config, encodes=False)
        self._bound.limit_bytes, usual = spec.memory_bytes, usual_bytes(longest, size)
        free = self._bound.left(platform.free_bytes(), usual)
        room = share_out(spec, longest, size, free, spec.feature_cache_bytes)
        self._inputs = inputs = InputReader(processor, model.config, placeholders(model, config))
        self._media = MediaDecoder(spec.media_limits, DECODERS, inputs.sample_rate)
        output_format, template_notes = self._speak(spec, folder, tokenizer, vocab_size, room, inputs, kept)
        notes += template_notes
        with ExitStack() as unless_it_works:
            unless_it_works.callback(self._media.close)
            sequences, senseless = Senses(model, self._prompts, self._media, inputs).sequences()
            tried = try_model(
                model,
                sequences,
                rows=spec.rows,
                feature_bytes=spec.feature_cache_bytes,
                prefix_bytes=room.kept,
            )
            unless_it_works.pop_all()
        self._prefixes = tried.prefixes
        self._features = None if tried.tower is None else tried.tower.memory
        if spec.prompt_cache_dir is not None:
            notes.append("--prompt-cache-dir is for models of text: this one's prompts are kept in memory only")
        admission = Admission(size, room.running, self._bound, grouped=False)
        engine = VisionEngine(
            model,
            set(tokenizer.eos_token_ids),
            rows=tried.rows,
            prefill_step_size=spec.prefill_step_size,
            tower=tried.tower,
            prefixes=tried.prefixes,
            gap_s=spec.max_gap_s,
            admission=admission,
            joinable=tried.joinable,
        )
        self._embedding = embedding = embedding_beside(
            seeing_states(model, tried.tower),
            tokenizer._tokenizer,
            vocab_size,
            room.max_model_len,
            min(spec.batch_tokens, spec.prefill_step_size),
            conversation_inputs(self._prompts, room.max_model_len),
            kept=kept,
        )
        self.engine = SideBySide(engine, *embedding.engines, ScoringEngine(text_model, engine, admission=admission))
        self._bound.loaded(tried.prefixes, usual)
        if spec.warm_prompt is not None:
            notes.append(self._warm(spec.warm_prompt))
        return ModelFacts(
            rows=tried.rows,
            context_length=longest,
            max_model_len=room.max_model_len,
            kept_tokens=size.tokens_in(tried.prefixes.limit_bytes),
            vocab_size=vocab_size,
            parameter_bytes=parameter_bytes,
            architecture=str(config.get("model_type")),
            device=platform.device_name(),
            fingerprint=model_print,
            notes=(
                *notes,
                *room.notes,
                *platform.size_notes(parameter_bytes),
                *senseless,
                *tried.notes,
            ),
            reasoning=output_format.thinking is not None,
            chats=self._chats,
            tools=output_format.format.name,
            grammars=True,
            media=inputs.kinds,
            dimensions=embedding.dimensions,
            scoring="embedding_similarity" if embedding.maker else None,
            sampling=self._prompts.model_defaults,
        )

    @property
    def kinds(self) -> Several[MediaKind]:
        """What its processor takes, as was found out."""
        return self._inputs.kinds

    def decode(self, media: Several[Media], abandoned: IsCancelled = never) -> Several[Media]:
        """Pictures and sounds in the place of files. Raises InvalidRequest."""
        self._inputs.check(media)
        return self._media.decode(media, abandoned)

    def close(self) -> None:
        """Release what is held, and end the processes that decode."""
        self._media.close()
        super().close()
