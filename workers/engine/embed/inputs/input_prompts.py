"""The texts that a model wants before its inputs, by what the inputs are."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlx_server.schemas.internal.embedding import EmbeddingRequest
from mlx_server.schemas.internal.errors import InvalidRequest

INPUT_TYPES: tuple[tuple[str, ...], ...] = (
    ("query", "search_query", "retrieval_query"),
    ("document", "passage", "search_document", "retrieval_document", "corpus"),
    ("classification",),
    ("clustering",),
    ("similarity", "sts", "semantic_similarity"),
)
"""Words for the same kind of input, in several APIs and models."""


@dataclass(frozen=True, slots=True)
class InputPrompts:
    """A model's own prompts by their names, and the one for inputs of which nothing is said."""

    named: dict[str, str] = field(default_factory=dict)
    default: str | None = None

    def before(self, request: EmbeddingRequest) -> str:
        """What stands before each of a request's texts. Raises InvalidRequest."""
        if request.prompt is not None:
            return request.prompt
        if request.prompt_name is not None:
            return self._by_name(request.prompt_name)
        if request.input_type is not None:
            return self.of_type(request.input_type)
        return self.named.get(self.default or "", "")

    def of_type(self, input_type: str) -> str:
        """The prompt for inputs of a kind; none where the model makes no difference. Raises InvalidRequest."""
        own = {plain(name): prompt for name, prompt in self.named.items()}
        word = plain(input_type)
        if word in own:
            return own[word]
        for words in INPUT_TYPES:
            if word in words:
                return next((own[other] for other in words if other in own), "")
        known = sorted({*self.named, *(word for words in INPUT_TYPES for word in words)})
        raise InvalidRequest(f"`input_type` must be one of {', '.join(known)}, not {input_type!r}.", "input_type")

    def _by_name(self, name: str) -> str:
        if name in self.named:
            return self.named[name]
        names = ", ".join(sorted(self.named))
        allowed = f"it has {names}" if names else "it has none"
        raise InvalidRequest(f"`prompt_name`: this model has no prompt {name!r}; {allowed}.", "prompt_name")


def plain(name: str) -> str:
    """A name as it is compared: `Retrieval-query` and `RETRIEVAL_QUERY` are one."""
    return name.lower().replace("-", "_").replace(" ", "_")
