"""What is asked of a family of models that embed pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_server.workers.engine.embed.embedder import HiddenStates
from mlx_server.workers.engine.embed.inputs.framed_text import Frame, plain_frame
from mlx_server.workers.engine.embed.inputs.input_texts import InputTexts
from mlx_server.workers.engine.embed.requests import WithMedia


@dataclass(frozen=True, slots=True)
class SightedInputs:
    """How texts, and pictures with or without a text, become what the model takes. Tokenizer's thread only.

    `with_media` is None where the model has lost the part that sees.
    """

    with_media: WithMedia | None
    frame: Frame = plain_frame


@dataclass(frozen=True, slots=True)
class Family:
    """`build` makes a model out of a folder and its config, with its weights unread, and raises anything.

    `hidden_states` is given the model and its tokenizer; `read_inputs` the folder, the model and what tokenises its
    texts, and raises anything. `pooling`: where no file says it. `lower_case`: the models were
    trained on lower case. `may_be_slow`: a tokenizer of Transformers' own code will do.
    """

    build: Callable[[Path, dict[str, Any]], Any]
    hidden_states: Callable[[Any, Any], HiddenStates]
    read_inputs: Callable[[Path, Any, InputTexts], SightedInputs]
    pooling: str
    lower_case: bool = False
    may_be_slow: bool = False
