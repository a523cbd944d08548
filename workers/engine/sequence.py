"""The unit of work inside a worker: one sequence of tokens, which knows all that is needed to replay it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlx_server.schemas.internal.generation import Limits, Sampling
from mlx_server.schemas.internal.messages import FinishReason, Result

if TYPE_CHECKING:
    from mlx_server.workers.engine.grammar.distinct import Matcher
    from mlx_server.workers.engine.kvcache.shared_prefix import SharedPrefix
    from mlx_server.workers.engine.output.output_format import Speech
    from mlx_server.workers.engine.output.thinking import ThinkingStart
    from mlx_server.workers.engine.vision.inputs import MediaInputs

Key = tuple[int, int]
"""A sequence's name: its ticket and its index within the ticket."""


@dataclass(eq=False, slots=True)
class Sequence:
    """A prompt (token ids), what it may become (`max_tokens`, sampling) and what it has become so far."""

    key: Key
    prompt: list[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    continues_text: bool = False
    """Its text goes on where the prompt's ends, as a text completion's does."""
    prefix: SharedPrefix | None = None
    """What it has in common with the other choices of its prompt."""
    grammar: Matcher | None = None
    """What its text must be, at its beginning."""
    thinking: ThinkingStart | None = None
    thinking_budget: int | None = None
    speech: Speech | None = None
    """What a conversation's answer may hold beside text; None for a text that is gone on with."""
    echo: str | None = None
    """The prompt's text, where it is a part of the answer."""
    logprobs: int | None = None
    """How many alternatives are reported for each token; None for no report."""
    prompt_logprobs: int | None = None
    """The same for the prompt's tokens."""
    token_ids: bool = False
    """The ids of all its tokens are reported."""
    follows: bool = False
    """Another sequence has the same prompt, and counts it."""
    emitted: list[int] = field(default_factory=list)
    ids: npt.NDArray[np.int32] | None = field(default=None, repr=False)
    """The prompt as an array, once someone has made it."""
    adapter: str | None = None
    """Its adapter's name, as the request has it; None for the server's default."""
    draft_tokens: int = 0
    """How many tokens a draft model proposes at a time; 0: none takes part."""
    drafted: int = 0
    accepted: int = 0
    """Of the drafted tokens, those that were emitted."""
    tenant: str = ""
    """Whose request it is: nothing that is kept of it is used for others'."""
    ignored: tuple[str, ...] = ()
    """The paths of the request's fields that change nothing with this model."""
    dropped_messages: int = 0
    """How many of its conversation's oldest messages were left out."""
    unkept: tuple[int, int] | None = None
    """The bytes that its prompt needs to be kept, and those that there are, where these are fewer."""
    media: MediaInputs | None = field(default=None, repr=False)
    """The pictures that its prompt has places for."""
    marks: tuple[int, ...] = ()
    """Lengths of beginnings of the prompt that will be used again, as the client thinks."""
    use_cache: bool = True
    """What is kept of earlier prompts may be used for it, and it may be kept."""
    conversation: str = ""
    """What its client calls the conversation that it belongs to, if anything."""
    variant: str = ""
    """What the model wears while it reads this: nothing that it has read otherwise is of use."""
    cached_tokens: int = 0
    """Tokens of the prompt whose KV states were known."""
    read: int = 0
    """Tokens of the context that have been read so far, or were known."""
    encoded_media: int = 0
    cached_media: int = 0
    """Pictures that the model's encoder had to look at, and those whose features were known."""

    @property
    def context(self) -> list[int]:
        """All its tokens: a replay prefills these."""
        return self.prompt + self.emitted

    @property
    def scored(self) -> int | None:
        """How many alternatives are wanted for each token of its prompt; None if these need not be scored."""
        wanted = (self.prompt_logprobs, None if self.echo is None else self.logprobs)
        return max((most for most in wanted if most is not None), default=None)

    def found(self, tokens: int) -> None:
        """So many of its tokens were known; they count as cached only if that was so before it came."""
        self.read = tokens
        if not (self.emitted or self.follows or self.scored is not None):
            self.cached_tokens = tokens

    @property
    def remaining(self) -> int:
        """How many tokens it may still emit."""
        return self.max_tokens - len(self.emitted)


@dataclass(frozen=True, slots=True)
class Token:
    """One step's token of one sequence; with `finish` it is the last. A stop token has no text.

    `logprob` and those of the most probable tokens (`top`: id and log-probability, best first) are in nats, and
    there if the sequence wants them.
    """

    key: Key
    token: int
    finish: FinishReason | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Echoed:
    """A prompt of which something is in the answer: log-probabilities of its tokens from the second on, if they are
    wanted, and the ranks that they had.

    With `finish` nothing follows.
    """

    key: Key
    reports: tuple[tuple[float, tuple[tuple[int, float], ...]], ...]
    finish: FinishReason | None = None
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A sequence that the engine could not go on with; `param` is the request's field that is to blame, if one is."""

    key: Key
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Computed:
    """Results of one step for one sequence whose work is no text. With `finish` nothing follows."""

    key: Key
    results: tuple[Result, ...]
    finish: FinishReason | None = None


Produced = Token | Echoed | Computed | Broken
