"""`/v1/images/generations` and `/v1/images/edits`: pictures in one answer, or as they come."""

from __future__ import annotations

import binascii
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.messages import Finished, Picture, Result
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.schemas.openai.media import images as api

Link = Callable[[bytes, str], str]
"""The address under which a file of a media type can be fetched from now on."""


class PictureEncoder:
    """One answer."""

    media_type = "application/json"

    def __init__(self, work: PictureRequest, wanted: api.ResponseFormat | None, link: Link) -> None:
        """`link` keeps a picture and gives its address."""
        self._work = work
        self._wanted = wanted
        self._link = link
        self._created = int(time.time())
        self._finished: list[Picture] = []
        edits = work.image is not None
        self._partial = api.EditPartial if edits else api.ImagePartial
        self._completed = api.EditCompleted if edits else api.ImageCompleted

    def events(self, events: Iterable[Result | Finished]) -> bytes:
        """What these events are in a stream. The last picture waits for what all have taken, which comes with it."""
        out = []
        for event in events:
            match event:
                case Picture(partial=None):
                    self._finished.append(event)
                    if len(self._finished) < self._work.count:
                        out.append(sse.event(self._completed(**self._of(event), seed=self._seed(event))))
                case Picture(partial=int(number)):
                    out.append(sse.event(self._partial(**self._of(event), partial_image_index=number)))
                case Finished():
                    last = self._finished[-1]
                    usage = usage_of(event)
                    out.append(sse.event(self._completed(**self._of(last), seed=self._seed(last), usage=usage)))
        return b"".join(out)

    def end(self) -> bytes:
        """Nothing more."""
        return b""

    def whole(self, events: Sequence[Result | Finished]) -> bytes:
        """The answer in one piece."""
        pictures = sorted((event for event in events if isinstance(event, Picture)), key=lambda one: one.index)
        [finished] = [event for event in events if isinstance(event, Finished)]
        data = [self._image(one) for one in pictures]
        answer = api.ImagesResponse(
            self._created, data, size_of(pictures[0]), self._work.format, usage=usage_of(finished)
        )
        return msgspec.json.encode(answer)

    def error(self, answer: Answer) -> bytes:
        """A failure after the stream has begun."""
        return sse.error(answer)

    def _image(self, picture: Picture) -> api.Image:
        """By its address, in base64, or both where the client did not say."""
        return api.Image(
            seed=self._seed(picture),
            url=self._link(picture.data, f"image/{self._work.format}") if self._wanted != "b64_json" else msgspec.UNSET,
            b64_json=base64_of(picture) if self._wanted != "url" else msgspec.UNSET,
        )

    def _seed(self, picture: Picture) -> int:
        return self._work.seed + picture.index

    def _of(self, picture: Picture) -> dict[str, Any]:
        return {
            "b64_json": base64_of(picture),
            "created_at": self._created,
            "size": size_of(picture),
            "output_format": self._work.format,
            "index": picture.index,
        }


def base64_of(picture: Picture) -> str:
    """A picture's file."""
    return binascii.b2a_base64(picture.data, newline=False).decode()


def size_of(picture: Picture) -> str:
    """WIDTHxHEIGHT."""
    return f"{picture.width}x{picture.height}"


def usage_of(finished: Finished) -> api.ImageUsage:
    """What a request has taken."""
    read, drawn = finished.prompt_tokens, finished.completion_tokens
    return api.ImageUsage(read, drawn, read + drawn, api.InputDetails(read))
