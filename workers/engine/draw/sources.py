"""Pictures that clients want changed, from files that lie on this machine. For the decoders' threads."""

from __future__ import annotations

from pathlib import Path
from queue import LifoQueue

import numpy as np
from msgspec.structs import asdict
from PIL import Image

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.draw.wish import Mask, Pixels
from mlx_server.workers.engine.media.pictures import PictureReader

OPAQUE = 255


class OpenedPicture(PictureRequest, frozen=True, kw_only=True):
    """The same with its files decoded; a mask, black where the picture may change, has the picture's size."""

    source: Image.Image
    changing: Image.Image | None = None


class SourceReader:
    """Decodes pictures; `count` threads may do so at a time, each with a process of its own."""

    def __init__(self, limits: MediaLimits, count: int) -> None:
        self._all = [PictureReader(limits) for _ in range(count)]
        self._idle: LifoQueue[PictureReader] = LifoQueue()  # the one whose process is warm comes first
        for reader in self._all:
            self._idle.put(reader)

    def open(self, request: PictureRequest, abandoned: IsCancelled = never) -> PictureRequest:
        """A request with its files decoded; as it is where it has none. Raises InvalidRequest."""
        if request.image is None:
            return request
        reader = self._idle.get()
        try:
            [source] = reader.read([media_of(request.image, "image")], abandoned)
            changing = None
            if request.mask is not None:
                changing = reader.read_alpha(media_of(request.mask, "mask"), abandoned)
                check_mask(changing, source)
        finally:
            self._idle.put(reader)
        return OpenedPicture(**asdict(request), source=source, changing=changing)

    def close(self) -> None:
        """End the processes. Idempotent."""
        for reader in self._all:
            reader.close()


def media_of(path: str, param: str) -> Media:
    """A file as the reader of pictures takes it."""
    return Media("image", Path(path).read_bytes(), 0, param)


def check_mask(mask: Image.Image, source: Image.Image) -> None:
    """Raises InvalidRequest for one that does not fit, or keeps everything."""
    if mask.size != source.size:
        raise InvalidRequest(
            f"`mask` has to be as large as `image`: it has {mask.width}x{mask.height} pixels, and the picture"
            f" {source.width}x{source.height}.",
            "mask",
        )
    lowest, _ = mask.getextrema()
    if lowest == OPAQUE:
        raise InvalidRequest("`mask` has no transparent place, so that nothing could change.", "mask")


def fitted(picture: Image.Image, width: int, height: int) -> Pixels:
    """A picture's pixels [H, W, 3] at the size that is drawn."""
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def fitted_mask(mask: Image.Image, width: int, height: int) -> Mask:
    """Where a picture may change, bool [H, W], at the size that is drawn: wherever the mask is at all transparent."""
    # Averages first, so that a thin line of a large mask is not lost.
    smaller = mask.reduce((max(1, mask.width // width), max(1, mask.height // height)))
    return np.asarray(smaller.resize((width, height), Image.Resampling.NEAREST)) < OPAQUE
