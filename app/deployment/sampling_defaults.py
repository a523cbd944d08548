"""A model's defaults for sampling parameters that a request leaves open."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from mlx_server.app.config.settings import ModelSettings
from mlx_server.schemas.internal.generation import GenerationRequest, Sampling

FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Fields of the settings and of `Sampling`. Where both are None, the model's own generation_config.json decides."""


class SamplingDefaults:
    """Fills in what a request leaves open."""

    def __init__(self, settings: ModelSettings) -> None:
        self._defaults: dict[str, Any] = {
            field: value for field in FIELDS if (value := getattr(settings, field)) is not None
        }

    def fill(self, request: GenerationRequest) -> GenerationRequest:
        """The request with its sampling as it will be used, apart from what the model decides."""
        sampling = self.filled(request.sampling)
        return request if sampling is request.sampling else replace(request, sampling=sampling)

    def filled(self, sampling: Sampling) -> Sampling:
        """The same for the sampling alone."""
        missing = {field: value for field, value in self._defaults.items() if getattr(sampling, field) is None}
        return replace(sampling, **missing) if missing else sampling
