"""All that is found out about one template by trying it, each thing when it is asked for first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mlx_server.schemas.internal.generation import MediaKind
from mlx_server.workers.engine.prompt.templates.content import ContentForm, Marked
from mlx_server.workers.engine.prompt.templates.kinds import ChatTemplate, RolePrefixes
from mlx_server.workers.engine.prompt.templates.seeing import kinds_in_results, probe_content
from mlx_server.workers.engine.prompt.templates.taken import ProbedTurns
from mlx_server.workers.engine.prompt.templates.tools import Knowledge, probe


class Habits:
    """What a template does with contents, tools and turns. `marked` writes media that it does not show itself."""

    def __init__(self, template: ChatTemplate, arguments: Mapping[str, Any], marked: Marked | None = None) -> None:
        self.template = template
        self._arguments = arguments
        self._marked = marked

    @cached_property
    def form(self) -> ContentForm:
        """How it takes content."""
        if isinstance(self.template, RolePrefixes):
            return ContentForm()
        return probe_content(self.template, self._arguments, self._marked)

    @cached_property
    def knows(self) -> Knowledge:
        """What it does with tools."""
        return probe(self.template, self._arguments, self.form)

    @cached_property
    def turns(self) -> ProbedTurns:
        """Which turns it takes."""
        return ProbedTurns(self.template, self._arguments, lambda: self.knows, self.form)

    @cached_property
    def media_in_results(self) -> frozenset[MediaKind]:
        """What it shows in tools' results."""
        return kinds_in_results(self.template, self._arguments, self.knows, self.form)
