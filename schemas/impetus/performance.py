"""`/api/hardware/performance-mode`: what is asked for, and what came of it."""

from __future__ import annotations

from typing import Literal

import msgspec

ModeName = Literal["efficiency", "balanced", "performance"]


class ModeRequest(msgspec.Struct, frozen=True):
    """The mode to serve in from now on, over restarts too."""

    mode: ModeName


Tuned = int | float | None


class TunedModel(msgspec.Struct, frozen=True):
    """A model in the mode: what is in force, and what will be once it is loaded again; null is what nobody has set."""

    model_id: str
    status: str
    in_force: dict[str, Tuned]
    at_next_load: dict[str, Tuned]


class ModeAnswer(msgspec.Struct, frozen=True):
    """The mode, the one before it, and what it means for each model. `effects` are shares of what is configured."""

    success: bool
    message: str
    mode: ModeName
    previous_mode: ModeName
    effects: dict[str, float]
    models: list[TunedModel]


mode_decoder = msgspec.json.Decoder(ModeRequest)
