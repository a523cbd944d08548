"""The unit of work inside a worker: one sequence of tokens, which knows all that is needed to replay it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from mlx_server.schemas.internal.generation import Limits, Sampling, Speculate
from mlx_server.schemas.internal.messages import FinishReason, Result

if TYPE_CHECKING:
    from mlx_server.workers.engine.grammar.distinct import Matcher
    from mlx_server.workers.engine.kvcache.shared_prefix import SharedPrefix
    from mlx_server.workers.engine.output.output_format import Speech
    from mlx_server.workers.engine.output.thinking import ThinkingStart
    from mlx_server.workers.engine.vision.inputs import MediaInputs

Key = tuple[int, int]
"""A sequence's key: its ticket and its index within the ticket."""


@dataclass(eq=False, slots=True)
class Sequence:
    """A prompt (token ids), the limits of what may follow it, and what has followed so far."""

    gathers: ClassVar[bool] = True
    """Whether it is computed together with others, so that an idle engine does well to wait a little for them."""

    key: Key
    prompt: list[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    continues_text: bool = False
    """Whether its text continues the prompt's, as a text completion's does."""
    prefix: SharedPrefix | None = None
    """The prompt that it shares with the request's other choices."""
    grammar: Matcher | None = None
    """The grammar that its text must match: a matcher in its first state."""
    thinking: ThinkingStart | None = None
    thinking_budget: int | None = None
    speech: Speech | None = None
    """What a conversation's answer may hold beside text; None for a text completion."""
    echo: str | None = None
    """The prompt's text, if the answer contains it."""
    logprobs: int | None = None
    """The number of alternatives in each token's report; None for no reports."""
    prompt_logprobs: int | None = None
    """The same for the prompt's tokens."""
    token_ids: bool = False
    """Whether the ids of all its tokens are reported."""
    follows: bool = False
    """Whether another sequence has the same prompt and counts it."""
    emitted: list[int] = field(default_factory=list)
    ids: npt.NDArray[np.int32] | None = field(default=None, repr=False)
    """The prompt's token ids, int32 [T], once they are needed as an array."""
    adapter: str | None = None
    """The name of its adapter in the request; None for the server's default."""
    draft_tokens: int | None = None
    """How many tokens a draft model proposes at a time; None for as many as pay, 0 for none."""
    speculate: Speculate = "off"
    """Whether tokens are guessed from what it says."""
    predicted: list[int] = field(default_factory=list, repr=False)
    """The tokens of what its client thinks that it will say."""
    drafted: int = 0
    accepted: int = 0
    """How many of the `drafted` tokens were emitted."""
    tenant: str = ""
    """Whose request it is: cached prefixes are not shared with other tenants."""
    ignored: tuple[str, ...] = ()
    """The paths of the request's fields that have no effect with this model."""
    dropped_messages: int = 0
    """How many of its conversation's oldest messages were left out."""
    prefix_shortage: tuple[int, int] | None = None
    """If the prefix cache is too small for its prompt: the bytes that it would take, and those of the cache."""
    media: MediaInputs | None = field(default=None, repr=False)
    """The pictures that its prompt has places for."""
    marks: tuple[int, ...] = ()
    """Lengths of the prompt's prefixes that the client says will be used again."""
    use_cache: bool = True
    """Whether it may start from a cached prefix, and be cached."""
    yields: bool = False
    """Whether it makes way for others, so that its prompt is read in short steps."""
    conversation: str = ""
    """The client's name for its conversation; empty for none."""
    variant: str = ""
    """The variant of the model that reads it: only prefixes of the same variant are of use."""
    cached_tokens: int = 0
    """The prompt's tokens that were taken from the prefix cache."""
    read: int = 0
    """Tokens of the context that have been read so far, cached ones included."""
    encoded_media: int = 0
    cached_media: int = 0
    """How many pictures the model's encoder had to look at, and how many features were remembered."""

    @property
    def context(self) -> list[int]:
        """All its tokens: a replay prefills these."""
        return self.prompt + self.emitted

    @property
    def scored(self) -> int | None:
        """The number of alternatives in the reports on its prompt's tokens; None if there are none."""
        wanted = (self.prompt_logprobs, None if self.echo is None else self.logprobs)
        return max((most for most in wanted if most is not None), default=None)

    def found(self, tokens: int) -> None:
        """Note that `tokens` of its tokens come from the prefix cache; they count as cached unless it is replayed,
        follows another choice, or is scored."""
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
    """A prompt that is in the answer: reports on its tokens from the second on, if they are wanted, and the ranks of
    these tokens.

    With `finish` nothing follows.
    """

    key: Key
    reports: tuple[tuple[float, tuple[tuple[int, float], ...]], ...]
    finish: FinishReason | None = None
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A sequence that the engine gave up; `param` is the request's field that is to blame, if there is one."""

    key: Key
    message: str
    param: str | None = None


Later = Callable[[], tuple[Result, ...]]
"""Makes results of what a step has computed, without MLX: files of pixels. Called once, on a thread of its own."""


@dataclass(frozen=True, slots=True)
class Computed:
    """One step's results for a sequence that produces no text. With `finish` nothing follows.

    `progress`: how much is done, of how much, in units of its kind; None where that is not told.
    `later`: makes the results, where that takes time; the event loop gets them made.
    """

    key: Key
    results: tuple[Result, ...]
    finish: FinishReason | None = None
    progress: tuple[int, int] | None = None
    later: Later | None = None


Produced = Token | Echoed | Computed | Broken
