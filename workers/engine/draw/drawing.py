"""A client's request as a job: pictures that are drawn a step at a time, and told as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Picture as PictureFile
from mlx_server.schemas.internal.messages import Result
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.workers.engine.draw.family import Family
from mlx_server.workers.engine.draw.files import encoded
from mlx_server.workers.engine.draw.job import DrawingJob, Partial, Picture
from mlx_server.workers.engine.draw.sources import OpenedPicture, fitted, fitted_mask
from mlx_server.workers.engine.draw.wish import Source, Wish, settle, size_like
from mlx_server.workers.engine.jobs import SteppedJob, refuse
from mlx_server.workers.engine.sequence import Later


@dataclass(eq=False, slots=True)
class Drawing(SteppedJob):
    """One request; its `prompt` is there to be counted. `tokens` are those of the pictures, as the model has them."""

    request: PictureRequest = field(kw_only=True)
    drawing: DrawingJob = field(kw_only=True)
    left: int = field(kw_only=True)
    """Pictures that are not finished."""

    @property
    def ended(self) -> bool:
        """All pictures are finished."""
        return not self.left

    def step(self) -> list[Result] | Later:
        """One step of the drawing. Files are made later: the next step need not wait for them."""
        drawn = [one for one in self.drawing.advance() or () if isinstance(one, Partial | Picture)]
        self.done, self.total = self.drawing.steps_done, self.drawing.total_steps
        self.left -= sum(isinstance(one, Picture) for one in drawn)
        return partial(self._files, drawn) if drawn else []

    def _files(self, drawn: Sequence[Partial | Picture]) -> tuple[Result, ...]:
        return tuple(map(self._file, drawn))

    def _file(self, drawn: Partial | Picture) -> PictureFile:
        number = drawn.number if isinstance(drawn, Partial) else None
        height, width = drawn.pixels.shape[:2]
        data = encoded(drawn.pixels, self.request.format, self.request.quality)
        return PictureFile(self.key[0], drawn.index, data, width, height, number)


def drawing_of(ticket: int, request: PictureRequest, family: Family) -> Drawing:
    """The job of a request. Raises InvalidRequest for what the model can't do."""
    refuse(request.transparent, "background", "draws opaque pictures only")
    limits = family.limits
    refuse(request.image is not None and not limits.changes, "image", "draws new pictures only")
    wish = changing(request, family) if isinstance(request, OpenedPicture) else settle(request, limits, family.defaults)
    ids = family.prompt_ids(wish.prompt)
    check_length(ids, "prompt", limits.most_prompt_tokens)
    if wish.negative_prompt:
        check_length(family.prompt_ids(wish.negative_prompt), "negative_prompt", limits.most_prompt_tokens)
    drawing = DrawingJob(family, wish, request.partials)
    job = Drawing((ticket, 0), list(ids), 0, request=request, drawing=drawing, left=request.count)
    job.tokens = request.count * family.picture_tokens(wish.width, wish.height)
    return job


def changing(request: OpenedPicture, family: Family) -> Wish:
    """What is wished of a picture that is there. Raises InvalidRequest for what the model can't do."""
    width, height = size_like(request.source.width, request.source.height, family.limits)
    defaults = replace(family.defaults, width=width, height=height)
    wish = settle(request, family.limits, defaults)
    mask = None if request.changing is None else fitted_mask(request.changing, wish.width, wish.height)
    return replace(wish, source=Source(fitted(request.source, wish.width, wish.height), mask))


def check_length(ids: Sequence[int], param: str, most: int) -> None:
    """Refuse what the text encoder would not read to its end. Raises InvalidRequest."""
    if len(ids) > most:
        raise InvalidRequest(f"`{param}` has {len(ids)} tokens with the model's template; it reads {most}.", param)
