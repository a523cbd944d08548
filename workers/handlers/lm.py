"""Language models through mlx-lm."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, load_tokenizer

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import GenerationRequest, Sampling
from mlx_server.schemas.messages import Load, Loading, ModelFacts
from mlx_server.workers.engine import platform
from mlx_server.workers.engine.answer import Answer
from mlx_server.workers.engine.base import Engine
from mlx_server.workers.engine.batch import BatchEngine
from mlx_server.workers.engine.dialect import Dialect
from mlx_server.workers.engine.markup import Markup, PlainText
from mlx_server.workers.engine.probe import Batching, probe
from mlx_server.workers.engine.prompts import PromptMaker
from mlx_server.workers.engine.render import TemplateDefaults
from mlx_server.workers.engine.resolve import one_line, resolve
from mlx_server.workers.engine.scoring import EchoingEngine
from mlx_server.workers.engine.sequential import SequentialEngine
from mlx_server.workers.engine.text import DetokenizedText, follow, unknown_tokens
from mlx_server.workers.engine.tool_formats import HERMES
from mlx_server.workers.engine.vocabulary import Vocabulary
from mlx_server.workers.handlers.base import ModelLoadError
from mlx_server.workers.sequence import Key, Produced, Sequence

log = logging.getLogger(__name__)

PRIMING_TOKENS = 4
"""Tokens of a prompt that a detokeniser sees before the text that continues it: more than one character needs."""

CONTEXT_KEYS = ("max_position_embeddings", "max_sequence_length", "model_max_length", "n_positions", "seq_length")


class LanguageHandler:
    """A language model: chat template, tokenizer, batched decoding."""

    def __init__(self) -> None:
        self._tokenizer: Any = None
        self._textless: frozenset[int] = frozenset()
        """Tokens that are no text: the tokenizer does not know them."""
        self._silent: frozenset[int] = frozenset()
        """Those, and the special ones."""
        self._vocabulary: Vocabulary
        self._dialect: Dialect
        self._hermes: Dialect
        """The same model where a grammar makes it call in Hermes' JSON."""
        self._prompts: PromptMaker
        self._engine: Engine

    def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Find, read, adapt and try the model. Raises ModelLoadError."""
        platform.configure()
        folder = resolve(spec.model_path, Path(spec.cache_dir), report)
        model, config, notes = read_model(folder)
        parameter_bytes = evaluate(model, report)
        self._tokenizer = read_tokenizer(folder, config, spec.chat_template)
        report(Loading("warming up"))
        vocab_size = int(model(mx.array([[0]])).shape[-1])
        batching, reason = probe(model, spec.rows, vocab_size)
        if batching is not Batching.JOINT:
            notes.append(f"{batching.value}: {reason}")
        engine = make_engine(model, set(self._tokenizer.eos_token_ids), batching, spec)
        self._engine = EchoingEngine(model, engine)
        self._textless = unknown_tokens(self._tokenizer, vocab_size)
        self._silent = self._textless | frozenset(self._tokenizer.all_special_ids)
        self._vocabulary = Vocabulary(self._tokenizer, vocab_size)
        self._dialect = Dialect.of(self._tokenizer)
        self._hermes = self._dialect.speaking(HERMES)
        context_length = read_context_length(config)
        self._prompts = PromptMaker(
            copy.deepcopy(self._tokenizer),
            vocab_size,
            context_length,
            read_sampling_defaults(folder),
            self._vocabulary,
            self._dialect,
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
            notes=tuple(notes),
            reasoning=self._dialect.thinking is not None,
            tools=self._dialect.format.name,
            grammars=True,
        )

    def prepare(self, ticket: int, request: GenerationRequest) -> list[Sequence]:
        """Render and tokenise. Raises InvalidRequest."""
        return self._prompts.sequences(ticket, request)

    def answer_stream(self, sequence: Sequence) -> Answer:
        """A detokeniser of its own; all share one token map."""
        detokenizer = self._tokenizer.detokenizer
        if sequence.continues_text:
            follow(detokenizer, [token for token in sequence.prompt[-PRIMING_TOKENS:] if token not in self._silent])
        silent = self._silent if sequence.limits.skip_special_tokens else self._textless
        speech = sequence.speech
        markup: Markup = PlainText()
        if speech is not None:
            dialect = self._hermes if speech.hermes else self._dialect
            markup = dialect.markup(speech, starts_thinking=bool(sequence.thinking and sequence.thinking.thinks))
            silent -= dialect.mark_tokens(self._tokenizer, calls=speech.calls)
        return Answer(sequence, DetokenizedText(detokenizer, silent), markup, self._vocabulary.describe)

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


def read_model(folder: Path) -> tuple[Any, dict[str, Any], list[str]]:
    """The model with its weights unread, its config, and notes. Raises ModelLoadError."""
    if not (folder / "config.json").is_file():
        raise ModelLoadError(f"{folder} is not a model: it has no config.json")
    try:
        model, config = load_model(folder, lazy=True, trust_remote_code=False)
    # An unsupported architecture is a ValueError, a broken file anything; one architecture calls sys.exit.
    except (Exception, SystemExit) as error:
        raise ModelLoadError(f"{folder} can't be loaded: {one_line(error)}") from error
    model, notes = platform.suit_weights(model)
    return model, config, notes


def read_tokenizer(folder: Path, config: dict[str, Any], chat_template: str | None = None) -> Any:
    """mlx-lm's tokenizer; a given chat template takes the place of the model's own. Raises ModelLoadError."""
    settings: dict[str, Any] = {"trust_remote_code": False}
    if chat_template is not None:
        # The type would name a function of mlx-lm's, which goes before any template.
        settings |= {"chat_template": chat_template, "chat_template_type": None}
    try:
        return load_tokenizer(folder, settings, eos_token_ids=config.get("eos_token_id"))
    except Exception as error:
        raise ModelLoadError(f"{folder}: its tokenizer can't be loaded: {one_line(error)}") from error


def check_templates(prompts: PromptMaker, spec: Load) -> None:
    """Find out at the start what the operator got wrong. Raises ModelLoadError."""
    if spec.chat_template is None and not spec.chat_template_args:
        return
    try:
        prompts.renderer.check_defaults()
    except InvalidRequest as error:
        raise ModelLoadError(one_line(error)) from None


def evaluate(model: Any, report: Callable[[Loading], None]) -> int:
    """Read the weights, telling how far it is; returns their size in bytes. Raises ModelLoadError."""
    parameters = [array for _, array in tree_flatten(model.parameters())]
    total = int(sum(array.nbytes for array in parameters))
    done = told = 0
    try:
        for array in parameters:
            mx.eval(array)
            done += array.nbytes
            if done - told > total / 100 or done == total:
                report(Loading("loading weights", done, total))
                told = done
    except RuntimeError as error:
        raise ModelLoadError(f"the weights can't be read: {one_line(error)}") from error
    return total


def read_context_length(config: dict[str, Any]) -> int | None:
    """Tokens that prompt and answer may have together, from the model's config; None where it does not say."""
    for part in (config, config.get("text_config") or {}):
        for key in CONTEXT_KEYS:
            if isinstance(part.get(key), int) and part[key] > 0:
                return int(part[key])
    return None


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
