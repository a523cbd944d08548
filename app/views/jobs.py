"""How far requests are whose work is not counted in tokens: recordings, speech, pictures."""

from __future__ import annotations

from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.schemas.internal.picture import PictureRequest
from mlx_server.schemas.internal.sound import SpeechRequest, TranscriptionRequest
from mlx_server.schemas.internal.work import Work
from mlx_server.schemas.operations import JobProgress, JobUnit


def jobs_of(queue: Dispatcher) -> list[JobProgress]:
    """Those of a queue that have begun, in the order in which they came."""
    found = []
    for ticket in queue.tickets:
        unit, progress = unit_of(ticket.request), ticket.progress
        if unit is not None and progress is not None and progress.total is not None:
            found.append(JobProgress(progress.done, progress.total, unit))
    return found


def unit_of(work: Work) -> JobUnit | None:
    """What its progress counts; None for work that is counted in tokens."""
    match work:
        case TranscriptionRequest():
            return "seconds"
        case SpeechRequest():
            return "characters"
        case PictureRequest():
            return "steps"
    return None
