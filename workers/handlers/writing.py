"""What handlers of models that write text have in common: all but loading the model."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Iterable
from collections.abc import Sequence as Several
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_server.schemas.internal.embedding import EmbeddingRequest, ScoreRequest
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    GenerationRequest,
    Limits,
    Media,
    Prompt,
    Sampling,
    Speculate,
    ToolUse,
)
from mlx_server.schemas.internal.messages import KeptPrefix, Load, MlxMemory, PrefixOf
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.decode.admission import Footprint
from mlx_server.workers.engine.decode.kv_budget import KVBudget
from mlx_server.workers.engine.embed.computed import ComputedAnswer
from mlx_server.workers.engine.embed.inputs.job import EmbeddingJob
from mlx_server.workers.engine.embed.text_embedding import TextEmbedding
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.kvcache.prefix_index import Beginning, as_ids
from mlx_server.workers.engine.kvcache.prefix_store import EVERYBODY, PrefixStore, owner_of
from mlx_server.workers.engine.output.answer import Answer
from mlx_server.workers.engine.output.output_format import OutputFormat
from mlx_server.workers.engine.prompt.answer_factory import AnswerFactory
from mlx_server.workers.engine.prompt.diverging import message_at
from mlx_server.workers.engine.prompt.media_support import MediaSupport
from mlx_server.workers.engine.prompt.prompts import PromptMaker
from mlx_server.workers.engine.prompt.render import ChatRenderer, TemplateDefaults
from mlx_server.workers.engine.prompt.segments import limit_beside
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.runtime.kept_trials import KeptTrials
from mlx_server.workers.engine.sequence import Broken, Key, Sequence
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.folders.model_files import NotAModel, visible
from mlx_server.workers.folders.unread.settings import GENERATION, generation_notes, settings, tokenizer_notes
from mlx_server.workers.handlers.real_model import ModelHandler

NO_CHATS = (
    "it has no chat template, so /v1/chat/completions is refused unless a request sends one: give one with"
    " --chat-template, or --use-default-chat-template"
)

SUPPRESSED = -1e4
"""What is added to the logits of tokens that are never to be written: finite in half precision, and sure."""

if TYPE_CHECKING:
    from mlx_server.workers.engine.vision.features import FeatureMemory

log = logging.getLogger(__name__)


class WritingHandler(ModelHandler):
    """Chat template and tokenizer before an engine. What is loaded fills in the attributes."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: AnswerFactory
        self._prompts: PromptMaker
        self._embedding: TextEmbedding
        self._prefixes: PrefixStore
        self._features: FeatureMemory | None = None
        self._size: Footprint
        self._speculate: Speculate | None = None
        """How tokens are guessed where a request does not say; None if the engine guesses none."""

    def memory(self) -> MlxMemory:
        """MLX's counters, and what of it is kept for later requests."""
        features = 0 if self._features is None else self._features.nbytes
        return msgspec.structs.replace(super().memory(), prompts=self._prefixes.nbytes, features=features)

    def _speak(
        self,
        spec: Load,
        folder: Path,
        tokenizer: Any,
        vocab_size: int,
        room: KVBudget,
        media: MediaSupport | None,
        kept: KeptTrials,
        *,
        finds_marks: bool = False,
    ) -> tuple[OutputFormat, list[str]]:
        """Make what turns requests into tokens and tokens into answers; `finds_marks` is the prompt maker's.
        Whether grammars can be made of its vocabulary may be `kept`. Returns how the model speaks, and notes.

        Raises ModelLoadError for templates that the operator got wrong.
        """
        vocabulary, output_format = Vocabulary(tokenizer, vocab_size), OutputFormat.of(tokenizer)
        if not kept.get("vocabulary", bool):
            vocabulary.prepare()
            kept.put("vocabulary", True)
        self._answers = AnswerFactory(tokenizer, vocab_size, vocabulary, output_format)
        self._prompts = PromptMaker(
            copy.deepcopy(tokenizer),
            vocab_size,
            room.max_model_len,
            read_sampling_defaults(folder, vocab_size),
            vocabulary,
            output_format,
            TemplateDefaults(spec.chat_template_args, spec.use_default_chat_template),
            media,
            finds_marks=finds_marks,
            memory_bounds=room.memory_bounds,
            kept_bytes=limit_beside(room.kept),
        )
        check_templates(self._prompts, spec)
        asked = [*generation_notes(folder), *tokenizer_notes(folder, tokenizer.encode)]
        return output_format, [*template_notes(self._prompts.renderer), *asked]

    @property
    def _chats(self) -> bool:
        """Conversations can be rendered."""
        return not self._prompts.renderer.trouble

    def _warm(self, system: str) -> str:
        """Have a system prompt read for everybody; what there is to say about it. Raises ModelLoadError."""
        if not self._prefixes.keeps:
            return "--warm-prompt is not read: nothing can be kept of this model's prompts"
        try:
            tokens = self._prompts.beginning_with(system)
        except InvalidRequest as error:
            raise ModelLoadError(f"--warm-prompt can't be used: {one_line(error)}") from None
        self.engine.add(Sequence((-1, 0), tokens, 1, Sampling(temperature=0.0), tenant=EVERYBODY))
        while self.engine.busy:
            for item in self.engine.step():
                if isinstance(item, Broken):
                    raise ModelLoadError(f"--warm-prompt can't be read: {item.message}")
        return f"{len(tokens)} tokens of --warm-prompt have been read"

    def prepare(self, ticket: int, request: Work) -> list[Sequence]:
        """Render, tokenise, and process what is shown. Raises InvalidRequest."""
        if isinstance(request, EmbeddingRequest | ScoreRequest):
            return [self._embedding.prepare(ticket, request)]
        if not isinstance(request, GenerationRequest):
            raise InvalidRequest("This model writes text.", "model")
        sequences = self._prompts.sequences(ticket, request)
        drafted = request.draft is not None and request.draft.model is None
        speculate = request.speculate or ("auto" if drafted else self._speculate) or "off"
        guesses = self._speculate is not None and speculate != "off"
        predicted = self._prompts.ids_of(request.prediction) if guesses else []
        for sequence in sequences:
            sequence.prefix_shortage = self._prefix_shortage(sequence)
            if guesses:
                sequence.speculate, sequence.predicted = speculate, predicted
            else:
                sequence.ignored += request.guessing
        return sequences

    def _prefix_shortage(self, sequence: Sequence) -> tuple[int, int] | None:
        """The bytes that a prompt takes and those that there are, where it can't be kept for the next turn."""
        room, needed = self._prefixes.limit_bytes, int(self._size.bytes_of(len(sequence.prompt)))
        keeps = self._prefixes.keeps and sequence.use_cache
        return (needed, room) if keeps and needed > room else None

    def answer_stream(self, sequence: Sequence) -> Answer | ComputedAnswer:
        """A stream for one sequence."""
        if isinstance(sequence, EmbeddingJob):
            return ComputedAnswer(sequence)
        return self._answers.answer(sequence)

    def canary(self, key: Key) -> Sequence:
        """A sequence of one token, which leaves nothing behind."""
        return Sequence(key, [0, 1], 1, Sampling(temperature=0.0), Limits(ignore_eos=True), use_cache=False)

    def decode(self, media: Several[Media], abandoned: IsCancelled = never) -> Several[Media]:
        """As they are: they will be refused."""
        return media

    def tokens(self, prompt: Prompt, tool_use: ToolUse, tenant: str | None = None) -> list[int]:
        """Render and tokenise. Raises InvalidRequest."""
        return self._prompts.tokens(prompt, tool_use, tenant)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's entries."""
        return self._prompts.pieces(ids)

    def text(self, ids: Iterable[int]) -> str:
        """Their text. Raises InvalidRequest."""
        return self._prompts.text(ids)

    def kept_prefix(self, question: PrefixOf) -> KeptPrefix:
        """What is kept, and where the prompt differs from what is most alike. Raises InvalidRequest."""
        read = self._prompts.read(question.prompt, question.tool_use, question.tenant)
        places = () if read.media is None else read.media.places
        variant = self._variant(question.adapter)
        owners = (owner_of(tenant, variant) for tenant in (question.tenant, EVERYBODY))
        found = self._prefixes.nearest(*(Beginning(owner, as_ids(read.tokens), places) for owner in owners))
        count, alike = len(read.tokens), found.alike
        if not found.of or alike >= min(count, found.of):
            return KeptPrefix(count, found.usable, alike, found.of)
        message = message_at(self._prompts, question, read.tokens, alike)
        return KeptPrefix(count, found.usable, alike, found.of, message, self.pieces([read.tokens[alike]])[0])

    def _variant(self, adapter: str | None) -> str:
        """What the model would wear. Raises InvalidRequest."""
        return ""

    def close(self) -> None:
        """Release the generator; the memory goes with the process."""
        self._prompts.close()
        super().close()


def fingerprint(config: dict[str, Any], notes: list[str], parameter_bytes: int, library: str) -> str:
    """Names what decides what a seed gives: the model as its config was read, what was noted on that, and the library
    and the device that compute it."""
    facts = [config, notes, parameter_bytes, version("mlx"), version(library), platform.device_name()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:10]


def kept_trials(spec: Load, folder: Path, model_print: str) -> KeptTrials:
    """What is kept of the model with this fingerprint, with the weights and the tokenizer that it has now."""
    return KeptTrials.of(
        Path(spec.cache_dir), model_print, weights_print(folder), files_print(folder, "*token*"), spec.cpu_dtype
    )


def weights_print(folder: Path) -> str:
    """Names the weights' files as they are now: files that change are another model's."""
    return files_print(folder, "*.safetensors")


def files_print(folder: Path, pattern: str) -> str:
    """Names those files of a folder that match, by their sizes and times."""
    files = sorted(
        (path.name, (found := path.stat()).st_size, found.st_mtime_ns) for path in visible(folder.glob(pattern))
    )
    return hashlib.sha256(repr(files).encode()).hexdigest()[:10]


def check_fits(spec: Load) -> None:
    """Raise ModelLoadError if there is a prompt to be kept, and no room to keep any."""
    if spec.warm_prompt is not None and spec.prefix_cache_bytes == 0:
        raise ModelLoadError("--warm-prompt needs room to be kept in: --prefix-cache-mb is 0")


def check_templates(prompts: PromptMaker, spec: Load) -> None:
    """Find out at the start what the operator got wrong. Raises ModelLoadError."""
    if spec.chat_template is None and not spec.chat_template_args:
        return
    try:
        prompts.renderer.check_defaults()
    except InvalidRequest as error:
        raise ModelLoadError(one_line(error)) from None


def template_notes(renderer: ChatRenderer) -> list[str]:
    """What to say of a model that has no chat template, or one that renders nothing."""
    if not renderer.takes_chats:
        return [NO_CHATS]
    if not renderer.trouble:
        return []
    return [f"conversations are refused unless a client brings a chat template: {renderer.trouble}"]


def read_sampling_defaults(folder: Path, vocab_size: int) -> Sampling:
    """What the model's authors recommend, from generation_config.json."""
    try:
        config = settings(folder, GENERATION)
        known = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        found: dict[str, Any] = {k: config[k] for k in known if config.get(k) is not None}
        if config.get("do_sample") is False:
            found["temperature"] = 0.0
        never = msgspec.convert(config.get("suppress_tokens") or [], list[int])
        # Ids that the model does not have can't be written, and must not be looked up.
        found["logit_bias"] = {token: SUPPRESSED for token in never if 0 <= token < vocab_size}
        return msgspec.convert(found, Sampling)
    except (NotAModel, ValueError) as error:
        log.warning("%s is not used: %s", GENERATION, one_line(error))
        return Sampling()
