"""What to install for what a plain installation can't do."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from packaging.markers import Marker

Extra = Literal["cpu", "cuda", "vlm", "audio", "image", "otel", "ray"]


def install_line(extra: Extra, platform: str = sys.platform) -> str:
    """A command that brings what an extra of this package names.

    It names the packages themselves: they come from an index, wherever this package itself was installed from.
    """
    return shlex.join(["pip", "install", *requirements(extra, platform)])


def requirements(extra: Extra, platform: str) -> list[str]:
    """What an extra asks for on a platform, as pip takes it."""
    # The front end never needs it where everything is installed.
    from packaging.requirements import Requirement

    found = []
    for line in metadata.requires("mlx-server") or ():
        one = Requirement(line)
        marker, one.marker = one.marker, None
        if marker is not None and asked_for(marker, extra, platform) and not asked_for(marker, "", platform):
            found.append(str(one))
    return found


def asked_for(marker: Marker, extra: str, platform: str) -> bool:
    """Whether a requirement holds where an extra was asked for."""
    return marker.evaluate({"extra": extra, "sys_platform": platform})
