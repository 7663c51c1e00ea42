"""Rows of a stretch of time, not the newest ones: at a thousand requests a second those are of one second."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from monitoring.store.predictions import Store
from monitoring.store.records import Labelled, Prediction

T = TypeVar("T", Prediction, Labelled)
PARTS = 48  # of the stretch, each of which gives the newest of its rows
MOMENT = timedelta(microseconds=1)


def spread_predictions(
    store: Store, model: str, rows: int, span: timedelta, until: datetime | None = None
) -> list[Prediction]:
    """Return predictions of a model, oldest first: the newest, or as many spread over the span where these cover less.

    Args:
        store: has them.
        model: its name.
        rows: at most, but for rounding.
        span: that they cover if there are so old ones.
        until: the latest time, excluded; None: the newest there is.
    """
    return _spread(
        store,
        model,
        rows,
        span,
        lambda limit, since, end: store.predictions(model, since=since, until=end or until, limit=limit),
        lambda one: one.time,
    )


def spread_labelled(
    store: Store,
    model: str,
    rows: int,
    span: timedelta,
    *,
    version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Labelled]:
    """The same of predictions whose truth is known; arguments as of ``Store.labelled`` and ``spread_predictions``."""
    return _spread(
        store,
        model,
        rows,
        span,
        lambda limit, begin, end: store.labelled(
            model, version=version, since=begin or since, until=end or until, limit=limit
        ),
        lambda one: one.prediction.time,
        since,
    )


def _spread(
    store: Store,
    model: str,
    rows: int,
    span: timedelta,
    read: Callable[[int, datetime | None, datetime | None], Sequence[T]],
    time: Callable[[T], datetime],
    earliest: datetime | None = None,
) -> list[T]:
    newest = read(rows, None, None)
    if len(newest) < rows or time(newest[-1]) - time(newest[0]) >= span:
        return list(newest)
    end = time(newest[-1]) + MOMENT
    begin = end - span if earliest is None else max(earliest, end - span)
    borders = [begin + (end - begin) * i / PARTS for i in range(PARTS + 1)]
    stretches = list(zip(borders, borders[1:], strict=False))
    counts = [store.count(model, since, until) for since, until in stretches]
    share = rows / max(1, sum(counts))  # of each part's predictions, so that busy hours stay busy
    return [
        one
        for (since, until), count in zip(stretches, counts, strict=True)
        if (limit := round(min(1.0, share) * count))
        for one in read(limit, since, until)
    ]
