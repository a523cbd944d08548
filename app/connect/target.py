"""What a client has to know of a running server."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mlx_server.app.connect.running_server import ServerProblem, get, root_of

NO_KEY = "not-needed"
"""What stands for a key where the server asks for none: most clients insist on one."""

UNKNOWN_CONTEXT = 32_768
"""Tokens that clients are told of a model whose context nobody knows before it is loaded."""


class Modalities(msgspec.Struct, frozen=True):
    """What a model reads."""

    input: list[str] = []


class ServedModel(msgspec.Struct, frozen=True):
    """An entry of `/v1/models`, as far as clients are told of it."""

    id: str
    status: str = "loaded"
    context_length: int | None = None
    max_model_len: int | None = None
    default_max_tokens: int | None = None
    modalities: Modalities = Modalities()


class ServedModels(msgspec.Struct, frozen=True):
    """What `/v1/models` says."""

    data: list[ServedModel]


@dataclass(frozen=True)
class Target:
    """A server at `root` (http://HOST:PORT), and the model there that a client shall use.

    `context` and `output` are in tokens: for prompt and answer together, and for an answer. `key` is None where the
    server asks for none.
    """

    root: str
    model: str
    context: int
    output: int
    key: str | None = None
    sees: bool = False

    @property
    def url(self) -> str:
        """What OpenAI's clients call the base URL."""
        return f"{self.root}/v1"

    @property
    def client_key(self) -> str:
        """A key for clients that insist on one."""
        return self.key or NO_KEY


def find_target(url: str, model: str | None, key: str | None, timeout_s: float) -> Target:
    """Ask the server at `url`. Without a `model` it is the one that is loaded. Raises ServerProblem."""
    root = root_of(url)
    served = get(f"{root}/v1/models", key, timeout_s, ServedModels).data
    chosen = choose(served, model)
    context = chosen.max_model_len or chosen.context_length or UNKNOWN_CONTEXT
    # Agents take this off the context for their prompts.
    output = min(chosen.default_max_tokens or context // 4, context // 2)
    return Target(root, model or chosen.id, context, output, key, "image" in chosen.modalities.input)


def choose(served: list[ServedModel], wanted: str | None) -> ServedModel:
    """The model that is wanted, else one that is loaded. Raises ServerProblem."""
    names = ", ".join(model.id for model in served[:20])
    if not served:
        raise ServerProblem("the server has no model yet: start it with --model-path, or install one.")
    if wanted is not None:
        found = next((model for model in served if model.id == wanted), None)
        if found is None and len(served) == 1:
            return served[0]  # it answers to any name
        if found is None:
            raise ServerProblem(f"the server has no model {wanted!r}; it has {names}.")
        return found
    loaded = [model for model in served if model.status == "loaded"]
    if len(served) == 1 or len(loaded) == 1:
        return (loaded or served)[0]
    raise ServerProblem(f"the server has several models: name one with --model. It has {names}.")
