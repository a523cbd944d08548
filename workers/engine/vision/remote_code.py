"""A workaround: some processors of mlx-vlm (up to 0.7.10) ask transformers to run code out of a model's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

from transformers import dynamic_module_utils


class RemoteCodeRefused(Exception):  # noqa: N818 - named for what it says
    """Raised when a model's folder has code that would have to run."""

    def __init__(self) -> None:
        super().__init__("it needs code out of its own folder, which is never run")


@contextlib.contextmanager
def remote_code_refused() -> Iterator[None]:
    """Within this, nobody in this process runs a model's code, whatever they say they trust."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RemoteCodeRefused

    found = dynamic_module_utils.get_class_in_module
    dynamic_module_utils.get_class_in_module = refuse
    try:
        yield
    finally:
        dynamic_module_utils.get_class_in_module = found
