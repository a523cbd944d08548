"""Which variant of the model a request runs on: its adapter, and what a draft model has to do with it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mlx_server.app.config.settings import ModelSettings
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Draft, GenerationRequest, Speculate
from mlx_server.workers.folders.adapter_folder import NO_ADAPTER, find_adapter, list_adapters

NO_DRAFT = "none"
"""The name that asks for guesses without the draft model."""

DEFAULT_DRAFT = "default_model"
"""What mlx-lm's server calls the draft that it was started with."""


class Variants:
    """Settles a request's variant before it is queued: requests of the same variant then have equal fields."""

    def __init__(self, settings: ModelSettings) -> None:
        self._has_default_adapter = settings.adapter_path is not None
        self._adapter_dir = settings.adapter_dir
        self._draft_model = settings.draft_model

    def settle(self, request: GenerationRequest) -> GenerationRequest:
        """The request with its adapter's name and what it says of the draft as they will be used. Raises
        InvalidRequest."""
        adapter, draft = self._adapter(request.adapter), self._draft(request.draft, request.speculate)
        if (adapter, draft) == (request.adapter, request.draft):
            return request
        return msgspec.structs.replace(request, adapter=adapter, draft=draft)

    def _adapter(self, name: str | None) -> str | None:
        if name is None:
            return None
        if name == NO_ADAPTER:
            return NO_ADAPTER if self._has_default_adapter else None
        if self._adapter_dir is None:
            raise InvalidRequest(
                f"`adapters`: requests can't name adapters, only {NO_ADAPTER!r}:"
                " this server was started without --adapter-dir.",
                "adapters",
            )
        folder = find_adapter(self._adapter_dir, name)
        if folder is None:
            there_is = list_adapters(self._adapter_dir)
            raise InvalidRequest(
                f"`adapters`: there is no adapter {name[:100]!r}. Allowed are {NO_ADAPTER!r} and the folders of"
                f" --adapter-dir: {there_is}.",
                "adapters",
            )
        return folder.name

    def _draft(self, given: Draft | None, speculate: Speculate | None) -> Draft | None:
        if given is None:
            return None
        if given.model == NO_DRAFT:
            if given.tokens is not None:
                raise InvalidRequest(
                    f"`num_draft_tokens` means nothing when `draft_model` is {NO_DRAFT!r}: leave one out.",
                    "num_draft_tokens",
                )
            return given
        field = "num_draft_tokens" if given.model is None else "draft_model"
        if self._draft_model is None:
            raise InvalidRequest(f"`{field}`: this server was started without --draft-model.", field)
        names = {DEFAULT_DRAFT, self._draft_model, Path(self._draft_model).name}
        if given.model is not None and given.model not in names:
            allowed = ", ".join(map(repr, sorted(names | {NO_DRAFT})))
            raise InvalidRequest(f"`draft_model`: allowed are {allowed}, got {given.model[:100]!r}.", field)
        if speculate not in (None, "auto"):
            raise InvalidRequest(f"`{field}` means nothing when `speculate` is {speculate!r}: leave one out.", field)
        return Draft(None, given.tokens)
