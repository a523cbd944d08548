"""Hours of the day, such as those at which batches run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time

RULE = "must be two times of the day, such as 22:00-06:00"


@dataclass(frozen=True)
class Hours:
    """From `start` until `end`, over midnight where that is the earlier; the whole day where both are the same."""

    start: time
    end: time

    def include(self, now: time) -> bool:
        """Whether it is one of these hours."""
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


def parse_hours(text: str) -> Hours:
    """Hours as `22:00-06:00`. Raises ValueError, whose message says what is allowed."""
    found = re.fullmatch(r"\s*(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)\s*", text, re.ASCII)
    if found is None:
        raise ValueError(f"{RULE}.")
    try:
        start, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    except ValueError:
        raise ValueError(f"{RULE}.") from None
    return Hours(start, end)
