"""What a configured model is served as. Reads a few files, never the weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from mlx_server.app.catalog.errors import NotServable
from mlx_server.app.catalog.hub_cache import snapshot
from mlx_server.app.catalog.hub_kind import kind_on_hub
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.catalog.model_folder import read_model
from mlx_server.app.config.settings import ModelSettings, ModelType
from mlx_server.workers.folders.model_files import NotAModel
from mlx_server.workers.folders.model_path import ModelPathError, local_path
from mlx_server.workers.folders.servable import NotServed, check_servable
from mlx_server.workers.hub.access import HubAccess
from mlx_server.workers.hub.errors import HubError

log = logging.getLogger(__name__)


def folder_of(path: str) -> Path | None:
    """The folder or .gguf file that is meant, in the hub's cache too; None if it is not on this machine.

    Raises NotServable for what can't be a model.
    """
    try:
        return local_path(path) or snapshot(path)
    except ModelPathError as error:
        raise NotServable(str(error)) from None


def path_of(settings: ModelSettings) -> Path | None:
    """A model's files, as far as they are on this machine."""
    if settings.type == "scripted":
        return None
    try:
        return folder_of(settings.path)
    except NotServable:
        return None


def read(settings: ModelSettings) -> ModelOnDisk | None:
    """What the model's files say; None if they are not, or not all, on this machine. Raises NotServable."""
    if settings.type == "scripted":
        return None
    folder = folder_of(settings.path)
    if folder is None:
        return None
    try:
        return read_model(folder)
    except NotAModel as error:
        lacking(settings.path, error)
        return None


def files_of(settings: ModelSettings) -> ModelOnDisk | None:
    """The same; None too for what can't be served."""
    try:
        return read(settings)
    except NotServable:
        return None


def check(path: str, model_type: ModelType | Literal["draft"]) -> None:
    """Raises NotServable for a model on this machine that can't be served so, or be another one's draft."""
    folder = folder_of(path)
    if folder is None or not folder.is_dir():
        return
    try:
        check_servable(folder, model_type)
    except NotAModel as error:
        lacking(path, error)
    except NotServed as error:
        raise NotServable(str(error)) from None


def lacking(path: str, error: NotAModel) -> None:
    """Files that are missing or broken are no fault of a hub's model: its worker downloads them. Raises NotServable."""
    if local_path(path) is not None:
        raise NotServable(str(error)) from None


def type_of(settings: ModelSettings, found: ModelOnDisk | None) -> ModelType:
    """What it is served as: what was asked for, else what its files say, else text."""
    if settings.type is not None:
        return settings.type
    if found is None:
        return "lm"
    return found.kind.model_type


def resolve(settings: ModelSettings, hub: HubAccess) -> ModelType:
    """The same, from the files that are on this machine, else from those of the hub. Takes a thread's time.

    Raises NotServable, also for a draft model beside it, or HubError if it is not here and the hub can't be asked.
    """
    if settings.type == "scripted":
        return settings.type
    if settings.draft_model is not None:
        check(settings.draft_model, "draft")
    if (found := read(settings)) is None:
        return settings.type or kind_on_hub(settings.path, hub).model_type
    model_type = type_of(settings, found)
    check(settings.path, model_type)
    return model_type


def configured_type(settings: ModelSettings, hub: HubAccess) -> ModelType:
    """The same of a model that is configured: while the hub can't be asked it is taken for one that writes text.

    Raises NotServable.
    """
    try:
        model_type = resolve(settings, hub)
    except HubError as error:
        log.warning("%s is taken for a model that writes text, give its type if it isn't: %s", settings.path, error)
        return "lm"
    if settings.type is None and model_type != "lm":
        log.info("%s is served as --model-type %s, as its files say", settings.public_name, model_type)
    return model_type
