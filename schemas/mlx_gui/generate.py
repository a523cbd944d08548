"""`/v1/models/{name}/generate`, as MLX-GUI has it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.generation import GenerationRequest, Sampling, TextPrompt
from mlx_server.schemas.openai.common import Probability

MOST_TOKENS = 16_384
HARMLESS: dict[str, tuple[bool, ...]] = {"stream": (False,)}


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt that is gone on with as it stands, without a template."""

    prompt: str
    max_tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)] = 8192
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    top_p: Probability = 1.0
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = 0
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] = 1.0
    repetition_context_size: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 20
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    use_cache: bool | None = None

    @property
    def model(self) -> None:
        """The path names it."""

    @property
    def stream(self) -> bool:
        """The answer is always whole."""
        return False

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type; this API has a default of its own."""
        return GenerationRequest(
            prompts=(TextPrompt(self.prompt),),
            max_tokens=self.max_tokens,
            sampling=Sampling(
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                seed=self.seed,
                repetition_penalty=self.repetition_penalty,
                repetition_context_size=self.repetition_context_size,
            ),
            use_cache=self.use_cache is not False,
        )


class GenerateUsage(msgspec.Struct, frozen=True):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Timing(msgspec.Struct, frozen=True):
    """From the request to its end, and tokens of the answer per second of that."""

    generation_time_seconds: float
    tokens_per_second: float


class Generated(msgspec.Struct, frozen=True):
    """The answer; `text` does not repeat the prompt."""

    model: str
    prompt: str
    text: str
    usage: GenerateUsage
    timing: Timing


generate_decoder = msgspec.json.Decoder(GenerateRequest)
