"""From a folder to a model that draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlx_server.schemas.internal.messages import CpuDtype, Loading
from mlx_server.workers.engine.draw.family import Family
from mlx_server.workers.engine.draw.flux2 import load_flux2
from mlx_server.workers.engine.draw.job import DrawingJob
from mlx_server.workers.engine.draw.networks import Networks
from mlx_server.workers.engine.draw.wish import Wish
from mlx_server.workers.engine.draw.z_image import load_z_image
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.folders.model_files import NotAModel
from mlx_server.workers.folders.picture_types import check_pictures

LOADERS: dict[str, Callable[[Path, CpuDtype, Callable[[Loading], None]], tuple[Family, Networks]]] = {
    "flux2": load_flux2,
    "z_image": load_z_image,
}
"""What loads each family that `picture_types` names."""


@dataclass(frozen=True, slots=True)
class PictureModel:
    """A loaded model, the bytes of its weights in memory, and what there is to say about it."""

    family: Family
    weight_bytes: int
    notes: list[str]


def load(folder: Path, cpu_dtype: CpuDtype, report: Callable[[Loading], None]) -> PictureModel:
    """Read a model's weights, telling how far it is, and draw a small picture. Raises ModelLoadError."""
    try:
        loader = LOADERS[check_pictures(folder)]
    except NotAModel as error:
        raise ModelLoadError(str(error)) from None
    try:
        family, read = loader(folder, cpu_dtype, report)
        report(Loading("warming up", computes=True))
        try_drawing(family)
    except ModelLoadError:
        raise
    except Exception as error:  # whatever the library says of files that do not fit it
        raise ModelLoadError(f"{folder} can't be loaded: {one_line(error)}") from error
    return PictureModel(family, read.weight_bytes, read.notes)


def try_drawing(family: Family) -> None:
    """Draw a picture as small and as quickly as the model can: the library does not compare the shapes of weights with
    those of its networks. Raises anything."""
    limits = family.limits
    wish = Wish("", (0,), limits.least_side, limits.least_side, limits.least_steps, family.defaults.guidance)
    job = DrawingJob(family, wish)
    while job.advance() is not None:
        pass
