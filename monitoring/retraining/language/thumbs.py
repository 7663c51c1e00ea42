"""Thumbs of two versions: whether users think worse of the new one, beyond the error of both."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from monitoring.store.records import Labelled
from training.statistics.intervals import wilson
from training.statistics.labels import UP, thumb_of
from training.statistics.pair import Pair


class Thumbs(NamedTuple):
    """Numbers of thumbs of a version."""

    up: int
    total: int

    @property
    def share(self) -> float:
        """The share of thumbs up; at least one thumb is needed."""
        return self.up / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of 95 % of the share."""
        low, high = wilson(np.array([self.share]), np.array([self.total]))
        return float(low[0]), float(high[0])


def count_thumbs(labelled: Iterable[Labelled]) -> Thumbs:
    """Count the thumbs of labelled conversations; other labels are none."""
    counts = Counter(thumb for row in labelled if (thumb := thumb_of(row.label)))
    return Thumbs(counts[UP], counts.total())


def compare_thumbs(thumbs: Pair[Thumbs], numbers: Pair[str], fewest: int) -> str | None:
    """Return why the challenger's thumbs are worse than the champion's; None if they are not, or are too few.

    The interval of the difference is made of Wilson's intervals of both shares (Newcombe 1998, "Interval estimation for
    the difference between independent proportions", method 10).

    Args:
        numbers: of the versions.
        fewest: thumbs that each must have.
    """
    former, new = thumbs
    if min(former.total, new.total) < fewest:
        return None
    low = former.share - new.share - math.hypot(former.share - former.interval[0], new.interval[1] - new.share)
    if low <= 0:
        return None
    return (
        f"{new.share:.0%} of {new.total:,} thumbs of {numbers.challenger} are up, and {former.share:.0%} of "
        f"{former.total:,} of {numbers.champion}: with 95 % confidence at least {low:.0%} of all fewer"
    )
