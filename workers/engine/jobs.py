"""Work of many steps that is not written token by token: requests take turns, one step each."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Finished, FinishReason, Result, Started
from mlx_server.workers.engine.sequence import Broken, Computed, Echoed, Key, Later, Produced, Sequence, Token
from mlx_server.workers.log_lines import about

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Job(Sequence):
    """A request's work. `done` of `total` is how far it is, in units of its kind."""

    done: int = 0
    total: int = 0
    tokens: int = 0
    """Tokens that the model wrote for it, where it writes any."""

    @property
    def progress(self) -> tuple[int, int]:
        """How much is done, of how much."""
        return self.done, self.total


class SteppedJob(Job):
    """A job that has its own steps."""

    gathers: ClassVar[bool] = False

    @abstractmethod
    def step(self) -> list[Result] | Later:
        """Do a little, and say what has come of it, or how that is made without MLX. Raises InvalidRequest for what the
        model can't do, or anything."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Nothing is left to do."""


class JobEngine:
    """Jobs take turns, one step each, in the order in which they came. Engine thread only."""

    def __init__(self) -> None:
        self._waiting: dict[Key, SteppedJob] = {}

    @property
    def busy(self) -> bool:
        """Whether any job has something left to do."""
        return bool(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Take in a job; its turn comes after everybody's."""
        assert isinstance(sequence, SteppedJob)
        self._waiting[sequence.key] = sequence

    def remove(self, key: Key) -> None:
        """Drop a job, however far it is; unknown keys are ignored."""
        self._waiting.pop(key, None)

    def step(self) -> list[Produced]:
        """One step of the job whose turn it is. What it raises ends that job only."""
        key, job = next(iter(self._waiting.items()))
        del self._waiting[key]
        try:
            found = job.step()
        except Exception as error:  # noqa: BLE001 - whatever a model raises ends the guilty request only
            return [broken(key, error)]
        if not job.ended:
            self._waiting[key] = job
        results, later = ((), found) if callable(found) else (tuple(found), None)
        return [Computed(key, results, "stop" if job.ended else None, job.progress, later)]

    def close(self) -> None:
        """Release all jobs."""
        self._waiting.clear()


def completed(item: Produced) -> Produced:
    """The same with its results made, or the end of its request. For any thread but those of MLX and the event loop."""
    if not isinstance(item, Computed) or item.later is None:
        return item
    try:
        return replace(item, results=item.later(), later=None)
    except Exception as error:  # noqa: BLE001 - what makes a file ends the guilty request only
        return broken(item.key, error)


def broken(key: Key, error: Exception) -> Broken:
    """The end of a request whose job raised."""
    if isinstance(error, InvalidRequest):
        return Broken(key, error.message, error.param)
    log.warning("a request could not be computed: %s", type(error).__name__, extra=about([key]))
    return Broken(key, f"{type(error).__name__}: {error}")


def refuse(given: bool, param: str, what: str) -> None:
    """Raises InvalidRequest if something is asked for that this kind of model does not do."""
    if given:
        raise InvalidRequest(f"`{param}`: this model {what}. Leave it out.", param, "unsupported_parameter")


class JobAnswer:
    """Passes a job's results on as they come. Lives on the event loop's thread."""

    def __init__(self, job: Job) -> None:
        self.finish: FinishReason | None = None
        self._job = job

    def started(self) -> Started:
        """What its prompt took, if it has one."""
        return Started(*self._job.key, len(self._job.prompt), 0)

    def add(self, item: Token | Echoed | Computed) -> Iterable[Result]:
        """One step's results."""
        assert isinstance(item, Computed)
        self.finish = item.finish
        return item.results

    def finished(self) -> Finished:
        """The end."""
        assert self.finish is not None
        return Finished(*self._job.key, self.finish, len(self._job.prompt), 0, self._job.tokens)
