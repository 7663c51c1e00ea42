"""Rows of a stretch of time out of a store in which the newest cover but minutes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.live.time_sampling import Extent, sample_labelled, sample_predictions
from monitoring.store.predictions import Store, open_store
from monitoring.store.records import Feedback, Labelled
from tests.support.monitoring.drifting import NOW, regression, rows

AIR, DAY = regression(), timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Two days with a row every minute, every ten seconds of the last hour, all labelled."""
    found: list[Labelled] = []
    for seed, count, seconds in ((1, 2880, 60), (2, 360, 10)):
        for one in rows(AIR, count, seed, seconds=seconds):
            found.append(replace(one, prediction=replace(one.prediction, request_id=f"{seed}")))
    store = open_store(f"sqlite:///{tmp_path / 'monitor.db'}")
    store.add_predictions(one.prediction for one in found)
    store.add_feedback(
        [Feedback(one.prediction.request_id, one.prediction.row, one.label, one.labelled) for one in found]
    )
    yield store
    store.close()


def test_as_many_rows_are_spread_over_the_span_and_busy_hours_stay_busy(store: Store) -> None:
    found = sample_predictions(store, "air", Extent(300, DAY))
    assert 280 <= len(found) <= 320
    times = [one.time for one in found]
    assert times == sorted(times)
    assert timedelta(hours=23) < times[-1] - times[0] <= DAY
    last = sum(one > NOW - timedelta(hours=1) for one in times)
    assert last == pytest.approx(300 * 420 / 1800, rel=0.1)  # of a day's rows
    labelled = sample_labelled(store, "air", Extent(300, DAY))
    assert Counter(one.prediction.request_id for one in labelled) == Counter(one.request_id for one in found)


def test_the_newest_do_where_they_cover_the_span_or_there_are_no_more(store: Store) -> None:
    assert sample_predictions(store, "air", Extent(300, timedelta(minutes=10))) == store.predictions("air", limit=300)
    assert sample_predictions(store, "air", Extent(9000, 9 * DAY)) == store.predictions("air")
    assert sample_predictions(store, "none", Extent(300, DAY)) == []


def test_only_what_was_asked_for_is_taken(store: Store) -> None:
    since, until = NOW - timedelta(hours=30), NOW - timedelta(hours=10)
    found = sample_labelled(store, "air", Extent(200, 2 * DAY, since, until), "1.0")
    times = [one.prediction.time for one in found]
    assert since <= min(times) < since + timedelta(hours=1)
    assert until - timedelta(hours=1) < max(times) < until
    assert sample_labelled(store, "air", Extent(200, DAY), "2.0") == []
