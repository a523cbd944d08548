"""The command line's options that say which models are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from mlx_server.app.config.names import NAME_RULE, index, is_name
from mlx_server.app.config.settings import ModelSettings, ModelType
from mlx_server.workers.folders.model_path import local_path


def models_of_flags(
    defaults: ModelSettings,
    model_type: ModelType | None,
    *,
    model_path: str | None,
    model_name: str | None,
    models: Sequence[str],
    companions: bool,
) -> tuple[ModelSettings, ...]:
    """Those of --model-path and --model, whose files say what they are unless the type is given. `companions`: there is
    an adapter or a draft model, which one model that writes text may have.

    Raises ModelPathError or typer.BadParameter.
    """
    found: list[ModelSettings] = []
    given = model_type or ("lm" if companions else None)
    if model_path is not None:
        found.append(replace(defaults, path=model_path, type=given, name=model_name))
    elif model_name is not None:
        raise typer.BadParameter("names the model of --model-path, which is missing.", param_hint="--model-name")
    found += [replace(defaults, path=path, type=given, name=name) for name, path in map(named, models)]
    if companions and len(found) > 1:
        raise typer.BadParameter(
            "is for one model; give several theirs in a --config file.",
            param_hint="--adapter-path / --draft-model / --hosts",
        )
    return tuple(model if model.type == "scripted" else plainly_placed(model) for model in found)


def plainly_placed(model: ModelSettings) -> ModelSettings:
    """The model, by its absolute path where it is on this machine: another one, where it isn't, would take a relative
    path for a hub id. Raises ModelPathError."""
    path = local_path(model.path)
    return model if path is None else replace(model, path=str(path))


def named(text: str) -> tuple[str | None, str]:
    """The name, if there is one, and the path of `NAME=PATH`. Raises typer.BadParameter."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return None, text
    if not is_name(name):
        raise typer.BadParameter(
            f"{name[:128]!r} can't be a model's name; allowed are {NAME_RULE}.", param_hint="--model"
        )
    return name, path


def pinned(models: tuple[ModelSettings, ...], names: Sequence[str]) -> tuple[ModelSettings, ...]:
    """The models, those named pinned. Raises typer.BadParameter for unknown names, and for a name twice."""
    try:
        by_name = index(models)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--model") from None
    for name in names:
        if name not in by_name:
            allowed = ", ".join(by_name) or "none, since no model is configured"
            raise typer.BadParameter(f"there is no model {name[:128]!r}; allowed: {allowed}.", param_hint="--pin")
    pins = {by_name[name].public_name for name in names}
    return tuple(replace(model, pinned=True) if model.public_name in pins else model for model in models)
