"""Whether something grows: a line through samples, and how sure its slope is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

LEAST = 8
"""Samples without which a slope says nothing."""


@dataclass(frozen=True, slots=True)
class Slope:
    """By linear regression, a minute: `low` to `high` is its 95 % interval. `first` and `last` are the line's ends."""

    per_minute: float
    low: float
    high: float
    first: float
    last: float

    def grows(self, noise: float) -> bool:
        """Whether it surely grows, and by more than noise."""
        return self.low > 0 and self.per_minute > noise


def slope_of(seconds: list[float], values: list[float]) -> Slope | None:
    """The slope of samples in the order of time; None for too few.

    Samples of memory depend on those before: their number is corrected for the residuals' correlation from one to the
    next (Santer et al. 2000, doi:10.1029/1999JD901105).
    """
    if len(values) < LEAST:
        return None
    x, y = np.asarray(seconds) / 60, np.asarray(values, float)
    found = stats.linregress(x, y)
    left = y - (found.intercept + found.slope * x)
    variance = float(left @ left)
    same = float(left[:-1] @ left[1:]) / variance if variance else 0.0
    count = max(3.0, len(y) * (1 - same) / (1 + same)) if same > 0 else float(len(y))
    error = np.sqrt(variance / (count - 2) / float(((x - x.mean()) ** 2).sum()))
    reach = float(stats.t.ppf(0.975, count - 2) * error)
    ends = (float(found.intercept + found.slope * at) for at in (x[0], x[-1]))
    return Slope(float(found.slope), found.slope - reach, found.slope + reach, *ends)
