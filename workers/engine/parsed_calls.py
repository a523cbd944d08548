"""Calls in a model's own syntax, which that model's parser reads a block at a time."""

from __future__ import annotations

from mlx_server.workers.engine.calls import Calls, Rest, is_json, regular
from mlx_server.workers.engine.marks import Marks
from mlx_server.workers.engine.markup import Said
from mlx_server.workers.engine.tool_formats import ToolFormat


class ParsedCalls:
    """One block of calls up to the format's end mark, or up to `leave`, which breaks a block off.

    Where the format tells when an argument or a call ends, what stands so far is parsed there and passed on.
    """

    def __init__(self, calls: Calls, format_: ToolFormat, leave: str | None = None) -> None:
        self._calls = calls
        self._format = format_
        self._end = Marks(mark for mark in (format_.end, leave) if mark)
        self._steps = Marks((format_.argument_end, format_.call_end))
        self._longest = max(map(len, (format_.end, format_.argument_end, format_.call_end, leave or "")))
        self._definitions = calls.definitions()
        self._body = ""
        self._sent: list[tuple[int, str]] = []
        """The calls that have begun: their numbers, and the arguments that have been passed on."""
        self._whole = 0

    def feed(self, text: str) -> Rest | None:
        """Read on; None while the block goes on."""
        known = max(0, len(self._body) - self._longest + 1)
        read = len(self._body)
        self._body += text
        found = self._end.find(self._body, known)
        self._parse_steps(known, read, len(self._body) if found is None else found[0])
        if self._calls.complete:
            return Rest("", failed=False)
        if found is None:
            return None
        at, mark = found
        after = self._body[at + len(mark) :]
        if mark != self._format.end:
            return Rest(self._body[at:], failed=False) if self._sent else Rest(self._body, failed=True)
        if self._parse(self._body[:at], final=True) or self._sent:
            return Rest(after, failed=False)
        return Rest(self._body, failed=True)

    def flush(self) -> Rest:
        """The text has ended inside the block: the end mark may be missing, or more than that."""
        body = self._body[: len(self._body) - self._end.held(self._body)]
        unfinished = self._format.argument_end and not body.rstrip().endswith(self._format.closer or "\0")
        if unfinished:
            self._parse(body + self._format.closer, final=False)
        elif self._parse(body, final=True):
            return Rest("", failed=False)
        return Rest("", failed=False) if self._sent else Rest(self._body, failed=True)

    def _parse_steps(self, start: int, read: int, end: int) -> None:
        """Parse at every mark that was not complete before and stands before `end`."""
        while (found := self._steps.find(self._body, start)) is not None:
            start = found[0] + len(found[1])
            if start > end or self._calls.complete:
                return
            if start > read:
                whole = found[1] == self._format.call_end
                self._parse(self._body[:start] + ("" if whole else self._format.closer), final=False, whole=whole)

    def _parse(self, body: str, *, final: bool, whole: bool = False) -> bool:
        """Pass on the calls in `body`; the last one goes on unless they are `whole`. False if there are none."""
        try:
            calls = regular(self._format.parse(body, self._definitions))
        except Exception:  # noqa: BLE001 - a model's parser may raise anything on what it does not understand
            return False
        known = [name in self._calls.names for name, _ in calls]
        if not all(known) and not (final and (any(known) or self._sent)):
            return False
        for index, (name, arguments) in enumerate(calls):
            if name not in self._calls.names:
                self._calls.pieces.append(Said(f'{{"name": "{name}", "arguments": {arguments}}}'))
            elif index >= self._whole:
                self._pass_on(index, name, arguments, final or whole or index < len(calls) - 1)
            if self._calls.complete:
                break
        return True

    def _pass_on(self, index: int, name: str, arguments: str, whole: bool) -> None:
        """Pass on what is new in one call's arguments. What has been sent stays, whatever the parser says later."""
        text = arguments if whole else arguments.removesuffix("}")
        if index >= len(self._sent):
            self._sent.append((self._calls.begin(name), ""))
        call, sent = self._sent[index]
        if text.startswith(sent):
            self._calls.more(call, text[len(sent) :])
            self._sent[index] = (call, text)
        elif whole:
            self._calls.more(call, "}")
        if whole:
            self._whole = index + 1
            if is_json(text):
                self._calls.end()
