"""What the scripted backend works on: sequences of tokens, and of results, that follow their scripts."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlx_server.schemas.internal.messages import Finished, FinishReason, Part, Result, Started, Text
from mlx_server.workers.engine.sequence import Computed, Echoed, Produced, Sequence, Token
from mlx_server.workers.handlers.script import Script


@dataclass(eq=False, slots=True)
class ScriptedSequence(Sequence):
    """A sequence that knows its script and when its next token is due, in monotonic seconds."""

    script: Script = field(default_factory=Script)
    due: float = 0.0

    def read_until(self, now: float) -> None:
        """Read its prompt as far as it is by then, evenly over the time until its first token."""
        if not self.emitted and self.script.first_token_s:
            left = max(0.0, self.due - now) / self.script.first_token_s
            self.read = int(len(self.prompt) * (1 - left))

    def advance(self) -> tuple[Script, int]:
        """Go one token further. Returns the script that tells what happens, and which of its tokens it is."""
        self.emitted.append(0)
        return self.script, len(self.emitted)

    def produced(self, *, last: bool) -> Produced:
        """The newest token."""
        return Token(self.key, 0, "length" if last else None)


@dataclass(eq=False, slots=True)
class ResultsSequence(ScriptedSequence):
    """One result for each token. They come in the reverse order: readers have to sort them."""

    results: list[tuple[Script, Result]] = field(default_factory=list)

    def advance(self) -> tuple[Script, int]:
        """Go one result further. Each has a script of its own, of which it is the first token."""
        self.emitted.append(0)
        return self.results[-len(self.emitted)][0], 1

    def produced(self, *, last: bool) -> Produced:
        """The newest result."""
        return Computed(self.key, (self.results[-len(self.emitted)][1],), "stop" if last else None)


class ScriptedAnswer:
    """Every token has the script's text; results are what was computed."""

    def __init__(self, sequence: ScriptedSequence) -> None:
        self.finish: FinishReason | None = None
        self._sequence = sequence
        self._tokens = 0

    def add(self, item: Token | Echoed | Computed) -> list[Part | Result]:
        """The text of one token, or the results."""
        self.finish = item.finish
        if isinstance(item, Computed):
            return list(item.results)
        self._tokens += 1
        return [Text(*item.key, self._sequence.script.text, 1)]

    def started(self) -> Started:
        """The script's beginning."""
        return Started(*self._sequence.key, len(self._sequence.prompt), 0)

    def finished(self) -> Finished:
        """The script's end."""
        assert self.finish is not None
        return Finished(*self._sequence.key, self.finish, len(self._sequence.prompt), 0, self._tokens)
