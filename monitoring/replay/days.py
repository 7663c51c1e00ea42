"""A recipe's timeline as the requests of its days."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from handlers.contract import Array, TensorSpec
from handlers.features import as_sent
from training.recipe import Split

NIGHT = timedelta(hours=5)  # a day of the flights begins at midnight in New York's winter


@dataclass(frozen=True)
class Hour:
    """Rows of one request.

    Attributes:
        time: time of each of the rows.
        instances: rows in the form of the KServe v1 protocol.
        labels: ``(n,)``, the truth, which comes later.
    """

    time: datetime
    instances: list[dict[str, Any]]
    labels: Array

    @property
    def request_id(self) -> str:
        """Return the id of the request; feedback refers to it."""
        return f"{self.time:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class Day:
    """The hours of one day in order."""

    date: date
    hours: tuple[Hour, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows of all its hours."""
        return sum(len(hour.labels) for hour in self.hours)


def days_of(
    rows: Split, inputs: tuple[TensorSpec, ...], since: date, until: date, share: float = 1.0, seed: int = 0
) -> Iterator[Day]:
    """Yield the days of a timeline.

    Args:
        rows: in order of time; those of one moment are one request.
        inputs: specifications of a regression's inputs, numbers and categories.
        since: the first day.
        until: the day after the last.
        share: share of the rows that are sampled, 0 to 1.
    """
    assert rows.time is not None
    first, last = (np.datetime64(day).astype("datetime64[s]").astype(np.int64) for day in (since, until))
    local = rows.time - int(NIGHT.total_seconds())
    sampled = np.random.default_rng(seed).random(len(rows)) < share
    chosen = np.flatnonzero(sampled & (local >= first) & (local < last))
    day_of = local[chosen] // 86400
    for day in np.unique(day_of):
        own = chosen[day_of == day]
        times, starts = np.unique(rows.time[own], return_index=True)
        parts = zip(times, np.split(own, starts[1:]), strict=True)
        hours = tuple(_hour(rows, inputs, int(time), part) for time, part in parts)
        yield Day(date(1970, 1, 1) + timedelta(days=int(day)), hours)


def _hour(rows: Split, inputs: tuple[TensorSpec, ...], time: int, chosen: Array) -> Hour:
    sent = rows.part(chosen).sent
    columns: Mapping[str, list[Any]] = {spec.name: as_sent(spec, sent[spec.name]) for spec in inputs}
    instances = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Hour(datetime.fromtimestamp(time, UTC), instances, rows.target[chosen])
