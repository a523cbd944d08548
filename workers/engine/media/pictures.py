"""Pictures from the bytes of clients' files: they are decoded in a process that can be killed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.sandbox.host import KillableProcess, Stopped

CHILD = "mlx_server.workers.engine.media.picture_child"

LOW_DETAIL_PIXELS = 512
"""Neither side of a picture of low detail is longer."""

BYTES_PER_PIXEL = 24
"""What decoding the most wasteful kind of file takes: a progressive JPEG with four colours that lies on its side."""

BASE_BYTES = 256 << 20


class PictureReader:
    """Decodes pictures, one after the other. Use it on one thread; `close` from any."""

    def __init__(self, limits: MediaLimits) -> None:
        greeting = {"most_pixels": limits.image_pixels, "low_detail_pixels": LOW_DETAIL_PIXELS}
        self._process = KillableProcess(
            CHILD,
            limit_s=limits.decode_s,
            cpu_s=math.ceil(limits.decode_s),
            memory_bytes=BASE_BYTES + BYTES_PER_PIXEL * limits.image_pixels,
            greeting=greeting,
            max_answer=3 * limits.image_pixels + 1024,
        )

    def read(self, media: Sequence[Media], abandoned: IsCancelled = never) -> list[Image.Image]:
        """The pictures, upright and in RGB; equal files give the same object.

        Low detail makes them fit into LOW_DETAIL_PIXELS squared. Raises InvalidRequest for the first that can't be
        read, and once nobody waits.
        """
        deadline = self._process.deadline() if media else 0.0
        known: dict[tuple[bytes, bool], Image.Image] = {}
        pictures = []
        for one in media:
            assert isinstance(one.source, bytes)
            key = one.source, one.detail == "low"
            if key not in known:
                known[key] = self._decode(*key, deadline, one.param, abandoned)
            pictures.append(known[key])
        return pictures

    def read_alpha(self, media: Media, abandoned: IsCancelled = never) -> Image.Image:
        """How opaque a picture's pixels are, from 0 to 255, upright and in mode L. Raises InvalidRequest."""
        assert isinstance(media.source, bytes)
        asked = {"file": media.source, "low": False, "alpha": True}
        answer = self._ask(asked, self._process.deadline(), media.param, abandoned)
        return Image.frombytes("L", (answer["width"], answer["height"]), answer["pixels"])

    def close(self) -> None:
        """End the process. Idempotent."""
        self._process.close()

    def _decode(self, file: bytes, low: bool, deadline: float, param: str, abandoned: IsCancelled) -> Image.Image:
        answer = self._ask({"file": file, "low": low, "alpha": False}, deadline, param, abandoned)
        return Image.frombytes("RGB", (answer["width"], answer["height"]), answer["pixels"])

    def _ask(self, asked: dict[str, Any], deadline: float, param: str, abandoned: IsCancelled) -> dict[str, Any]:
        answer: dict[str, Any]
        try:
            answer = self._process.ask(asked, deadline, abandoned)
        except Stopped as error:
            raise InvalidRequest(f"`{param}`: this picture can't be read: decoding it {error}.", param) from None
        if "refused" in answer:
            raise InvalidRequest(f"`{param}`: {answer['refused']}.", param)
        return answer
