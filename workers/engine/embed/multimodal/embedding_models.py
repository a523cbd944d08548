"""From a folder to a model that embeds, whatever its family: what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_server.workers.engine.embed.embedder import HiddenStates, encoder_states
from mlx_server.workers.engine.embed.encoder_models import caveats, import_architecture, read_encoder
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.folders.encoder_types import ARCHITECTURES, SIGHTED, model_type, no_embeddings

if TYPE_CHECKING:
    from mlx_server.workers.engine.embed.multimodal.family import SightedInputs


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model with its weights unread, and what is known of it.

    `positions`: the tokens that an input may have, where the model's class knows that whatever the config says.
    `pooling`: where no file says it. `hidden_states` is given the model and its tokenizer. `read_inputs`: how pictures
    become what it takes, for those that look at them; raises ModelLoadError. `may_be_slow`: a tokenizer of
    Transformers' own code will do.
    """

    model: Any
    vocab_size: int
    positions: int | None
    pooling: str
    hidden_states: Callable[[Any, Any], HiddenStates]
    read_inputs: Callable[[InputTexts], SightedInputs] | None = None
    lower_case: bool = False
    may_be_slow: bool = False
    notes: tuple[str, ...] = ()


def read_embedding_model(folder: Path, config: dict[str, Any]) -> EmbeddingModel:
    """The model in a folder. Raises ModelLoadError."""
    kind = model_type(config)
    if (reason := no_embeddings(config)) is not None:
        raise ModelLoadError(f"{folder} {reason}")
    if kind in SIGHTED:
        return read_sighted(folder, config)
    return EmbeddingModel(
        model=read_encoder(folder, config),
        vocab_size=int(config["vocab_size"]),
        positions=None,
        pooling=ARCHITECTURES[kind].pooling,
        hidden_states=lambda model, _: encoder_states(model, config),
        notes=tuple(caveats(config)),
    )


def read_sighted(folder: Path, config: dict[str, Any]) -> EmbeddingModel:
    """A model that looks at pictures. Raises ModelLoadError."""
    # It says what to install where mlx-vlm is missing.
    import_architecture("base")
    from mlx_server.workers.engine.embed.multimodal.families import FAMILIES

    family = FAMILIES[model_type(config)]
    try:
        model = family.build(folder, config)
        text = model.config.text_config
        positions = text.max_position_embeddings
    # A config or weights that don't fit the architecture raise anything.
    except Exception as error:
        raise ModelLoadError(f"{folder} can't be loaded: {one_line(error)}") from error

    def read_inputs(texts: InputTexts) -> SightedInputs:
        try:
            return family.read_inputs(folder, model, texts)
        # So does a processor whose files don't fit.
        except Exception as error:
            raise ModelLoadError(f"{folder}: its processor can't be loaded: {one_line(error)}") from error

    return EmbeddingModel(
        model=model,
        vocab_size=text.vocab_size,
        positions=positions,
        pooling=family.pooling,
        hidden_states=family.hidden_states,
        read_inputs=read_inputs,
        lower_case=family.lower_case,
        may_be_slow=family.may_be_slow,
    )
