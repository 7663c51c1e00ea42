"""Rows sampled over a stretch of time: at a thousand requests a second, the newest ones are of one second."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar

from monitoring.store.predictions import Store
from monitoring.store.records import Labelled, Prediction

T = TypeVar("T", Prediction, Labelled)
PARTS = 48  # of the stretch; the newest rows of each are sampled
MOMENT = timedelta(microseconds=1)


class Extent(NamedTuple):
    """Number and times of the rows of a sample.

    Attributes:
        rows: greatest number, but for rounding.
        span: time that they cover if there are rows as old as that.
        since: the earliest time, included; None: any.
        until: the latest time, excluded; None: the newest there is.
    """

    rows: int
    span: timedelta
    since: datetime | None = None
    until: datetime | None = None


def sample_predictions(store: Store, model: str, extent: Extent) -> list[Prediction]:
    """Return the newest predictions of a model, oldest first; where they cover less than the span, as many over it."""
    return _sample(store, model, extent, partial(store.predictions, model), lambda row: row.time)


def sample_labelled(store: Store, model: str, extent: Extent, version: str | None = None) -> list[Labelled]:
    """Return a sample as of ``sample_predictions`` of rows whose truth is known, of all versions or of one."""
    query = partial(store.labelled, model, version=version)
    return _sample(store, model, extent, query, lambda row: row.prediction.time)


def _sample(
    store: Store, model: str, extent: Extent, query: Callable[..., Sequence[T]], time: Callable[[T], datetime]
) -> list[T]:
    newest = query(since=extent.since, until=extent.until, limit=extent.rows)
    if len(newest) < extent.rows or time(newest[-1]) - time(newest[0]) >= extent.span:
        return list(newest)
    end = time(newest[-1]) + MOMENT
    begin = end - extent.span if extent.since is None else max(extent.since, end - extent.span)
    borders = [begin + (end - begin) * i / PARTS for i in range(PARTS + 1)]
    stretches = list(zip(borders, borders[1:], strict=False))
    counts = [store.count(model, since, until) for since, until in stretches]
    share = extent.rows / max(1, sum(counts))  # of each part's predictions, so that busy hours stay busy
    return [
        row
        for (since, until), count in zip(stretches, counts, strict=True)
        if (limit := round(min(1.0, share) * count))
        for row in query(since=since, until=until, limit=limit)
    ]
