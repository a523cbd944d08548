"""`/v1/settings`: what clients may change, and keep."""

from __future__ import annotations

import logging
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.middleware.operator import operator_only
from mlx_server.app.registry.app_settings import SETTINGS, Effect, Value, in_force, with_stored
from mlx_server.app.registry.stored import keys_of
from mlx_server.app.routes.generation import read_request
from mlx_server.schemas.mlx_gui.app_settings import SettingAnswer, setting_decoder

TOGETHER = ("auto_unload_inactive_models", "model_inactivity_timeout_minutes")
"""What one of them means depends on the other."""

OVERRULED = "It is kept, and not in force: the command line, the environment or the configuration file says, and wins."


async def settings(request: Request) -> Response:
    """All of them: what was set, else what is in force. What whoever started the server has said is in force."""
    stored = await services(request).registry.settings()
    current = services(request).fleet.settings
    overruled = keys_of(current.said)
    stored = {key: value for key, value in stored.items() if key not in overruled}
    return json_answer({**in_force(current), **stored})


@operator_only
async def change(request: Request) -> Response:
    """Set one. It is kept, and acts when its `effect` says; not while whoever started the server says otherwise."""
    given, _ = await read_request(request, setting_decoder, {})
    key = request.path_params["key"]
    registry = services(request).registry
    fleet = services(request).fleet
    value = await registry.set_setting(key, given.value)
    setting = SETTINGS[key]
    if key in keys_of(fleet.settings.said):
        return json_answer(SettingAnswer(key, value, True, Effect.KEPT_ONLY.value, OVERRULED))
    if setting.effect in (Effect.NOW, Effect.NEXT_LOAD):
        act(fleet, key, await registry.settings())
    return json_answer(SettingAnswer(key, value, True, setting.effect.value, setting.note))


def act(fleet: Fleet, key: str, stored: dict[str, Value]) -> None:
    """Have the running server go by a setting that has changed; models that are configured keep their own."""
    wanted = TOGETHER if key in TOGETHER else (key,)
    changed = with_stored(fleet.settings, {key: value for key, value in stored.items() if key in wanted})
    fleet.apply_settings(replace(changed, models=fleet.settings.models))
    if key == "log_level":
        logging.getLogger().setLevel(changed.log_level.upper())
