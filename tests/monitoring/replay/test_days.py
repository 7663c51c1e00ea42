"""A timeline as the requests of its days."""

from datetime import UTC, date, datetime

import numpy as np

from handlers.contract import Array, TensorSpec
from monitoring.replay.days import Day, days_of
from training.recipe import Split

INPUTS = (TensorSpec("distance", "FP32"), TensorSpec("carrier", "BYTES", categories=("AA", "UA")))
TIMES = [  # in New York's winter: two at 5:00 and one at 23:00 of 1 January, one at 5:00 of 2 January
    *[datetime(2013, 1, 1, 10, tzinfo=UTC)] * 2,
    datetime(2013, 1, 2, 4, tzinfo=UTC),
    datetime(2013, 1, 2, 10, tzinfo=UTC),
]


def timeline(times: list[datetime]) -> Split:
    count = np.arange(len(times))
    inputs: dict[str, Array] = {"distance": count.astype(np.float32), "carrier": count % 2}
    seconds = np.array([int(time.timestamp()) for time in times])
    return Split(inputs, (10 * count).astype(np.float32), time=seconds)


def days(since: date, until: date, share: float = 1.0, times: list[datetime] = TIMES) -> list[Day]:
    return list(days_of(timeline(times), INPUTS, since, until, share))


def test_rows_of_one_moment_are_a_request_and_a_day_ends_at_night_in_new_york() -> None:
    first, second = days(date(2013, 1, 1), date(2013, 1, 3))
    assert (first.date, second.date) == (date(2013, 1, 1), date(2013, 1, 2))
    assert (first.rows, second.rows) == (3, 1)
    assert [hour.time for hour in first.hours] == [TIMES[0], TIMES[2]]
    assert first.hours[0].instances == [{"distance": 0.0, "carrier": "AA"}, {"distance": 1.0, "carrier": "UA"}]
    assert first.hours[0].labels.tolist() == [0, 10]
    assert second.hours[0].labels.tolist() == [30]


def test_each_request_has_an_id_of_its_own_that_capture_takes() -> None:
    ids = [hour.request_id for day in days(date(2013, 1, 1), date(2013, 1, 3)) for hour in day.hours]
    assert ids == ["2013-01-01T10:00:00Z", "2013-01-02T04:00:00Z", "2013-01-02T10:00:00Z"]


def test_only_days_of_the_period_are_lived() -> None:
    assert [day.date for day in days(date(2013, 1, 2), date(2013, 1, 3))] == [date(2013, 1, 2)]
    assert days(date(2013, 1, 3), date(2014, 1, 1)) == []


def test_a_share_of_the_rows_is_the_same_each_time() -> None:
    many = [datetime(2013, 1, 1, 10, tzinfo=UTC)] * 1000
    (one,), (same,) = (days(date(2013, 1, 1), date(2013, 1, 2), 0.3, many) for _ in range(2))
    assert 200 < one.rows < 400
    assert one.hours[0].labels.tolist() == same.hours[0].labels.tolist()
