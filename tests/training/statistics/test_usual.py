"""What is usual for so much time and so many rows."""

from functools import partial

import numpy as np
import pytest

from handlers.contract import Array
from handlers.contract.model_card import Stretch, Usual
from training.packaging.reference import log_rms
from training.statistics.distribution import distance, of_categories, of_numbers
from training.statistics.usual import HOUR, ROWS, Learned, hours_of, learn, limit, loss_limit, p_value, read_usual

DAY = 24 * HOUR
NAMES = ("a", "b", "c")


def days(count: int, rows: int, chance: np.random.Generator) -> tuple[Array, Array]:
    """Numbers whose level wanders from day to day and has a rhythm of the hours, and their times."""
    times = np.sort(chance.uniform(0, count * DAY, count * rows))
    level = np.cumsum(chance.normal(size=count)) * 0.1
    return level[(times // DAY).astype(int)] + np.sin(2 * np.pi * times / DAY) + chance.normal(size=len(times)), times


def of(values: Array, times: Array | None = None) -> Learned:
    learned = read_usual(learn(values, of_numbers(values), times))
    assert learned is not None
    return learned


def test_rows_cover_the_hours_in_which_they_came_and_a_burst_covers_but_its_own() -> None:
    assert hours_of(np.array([]), 1.0) == 0
    assert hours_of(np.arange(0, 72 * HOUR, 60), 1.0) == pytest.approx(72)
    assert hours_of(np.arange(0, 42 * 60.0), 1.0) == 1
    burst = np.concatenate([np.arange(0, 7 * DAY, DAY), 7 * DAY + np.arange(2500.0)])
    assert hours_of(burst, 1.0) < 1.1
    assert hours_of(np.repeat(np.arange(30) * DAY, 5), 24.0) == pytest.approx(30 * 24)


def test_a_window_is_judged_by_the_longest_span_and_the_most_rows_that_it_reaches() -> None:
    learned = of(*days(80, 300, np.random.default_rng(0)))
    assert {one.span for one in learned.entries} == {24, 48, 96, 168}
    assert learned.fitting(5000, 21) is None
    assert learned.fitting(99, 999) is None
    day, week = learned.fitting(200, 26), learned.fitting(5000, 999)
    assert day is not None
    assert (day.span, day.rows) == (24, 200)
    assert week is not None
    assert (week.span, week.rows) == (168, max(one.rows for one in learned.entries if one.span == 168))
    assert week.mean < day.mean  # what lasts longer is nearer to the whole


def test_a_few_days_tell_nothing_of_others() -> None:
    values, times = days(7, 2000, np.random.default_rng(0))
    assert learn(values, of_numbers(values), times) is None
    assert learn(values[:799], of_numbers(values[:799])) is None


def test_windows_of_a_world_with_weather_and_rhythm_hardly_ever_alarm_at_any_number_of_rows_and_span() -> None:
    chance = np.random.default_rng(1)
    values, times = days(90, 400, chance)
    learned, summary = of(values, times), of_numbers(values)
    for rows in (200, 500, 1000, 2500):
        for span in (1, 30, 60, 120, 240):
            judged = []
            for _ in range(60):
                start = chance.uniform(0, times[-1] - span * HOUR)
                inside = np.flatnonzero((times >= start) & (times < start + span * HOUR))
                drawn = np.sort(chance.choice(inside, rows))
                usual = learned.fitting(rows, hours_of(times[drawn], learned.cell))
                if usual:
                    judged.append(p_value(learned, usual, summary, values[drawn]) < 0.01)
            assert sum(judged) <= 2, (rows, span)
            assert bool(judged) == (span > 24)


def test_what_drifts_is_noticed() -> None:
    values, times = days(90, 400, np.random.default_rng(1))
    learned, week = of(values, times), np.flatnonzero(times > times[-1] - 7 * DAY)
    usual = learned.fitting(len(week), hours_of(times[week], 1.0))
    assert usual is not None
    assert p_value(learned, usual, of_numbers(values), values[week] + 3) < 1e-3


@pytest.mark.parametrize("rows", ROWS)
def test_rows_in_no_order_alarm_as_rarely_as_chance_allows(rows: int) -> None:
    chance = np.random.default_rng(2)
    known = chance.integers(3, size=8000)
    summary = of_categories(known, NAMES)
    learned = read_usual(learn(known, summary))
    assert learned is not None
    usual = learned.fitting(rows, 0.0)
    assert usual is not None
    assert usual.rows == rows
    found = [p_value(learned, usual, summary, chance.integers(3, size=rows)) for _ in range(200)]
    assert np.mean(np.array(found) < 0.01) <= 0.02


def test_the_limit_is_the_distance_whose_p_value_is_the_level() -> None:
    usual = Stretch(24, 20, 100, 20.0, 0.3, 0.05, 0.1)
    far = np.linspace(0, 1, 257) + 0.4
    learned, summary = Learned(10**9, 1.0, (usual,)), of_numbers(np.linspace(0, 1, 257))
    p = p_value(learned, usual, summary, far)
    assert limit(usual, p) == pytest.approx(distance(summary, far), rel=1e-3)


def test_one_row_of_thousands_is_no_drift_of_what_never_changed() -> None:
    for known, other in ((np.zeros(8000), 1.0), (np.zeros(8000, np.int64), 3)):
        summary = of_numbers(known) if known.dtype == float else of_categories(known, NAMES)
        learned = read_usual(learn(known, summary))
        assert learned is not None
        usual = learned.fitting(2500, 0.0)
        assert usual is not None
        window = known[:2500].copy()
        assert p_value(learned, usual, summary, window) == 1
        window[0] = other
        assert p_value(learned, usual, summary, window) > 0.1
        window[:500] = other
        assert p_value(learned, usual, summary, window) < 1e-3


def test_errors_have_a_limit_that_weather_does_not_pass() -> None:
    chance = np.random.default_rng(3)
    times = np.sort(chance.uniform(0, 60 * DAY, 30_000))
    windy = np.where(chance.uniform(size=60) < 0.3, 2.0, 1.0)[(times // DAY).astype(int)]
    errors = windy * chance.normal(size=len(times))
    learned = read_usual(learn(errors, of_numbers(errors), times, partial(log_rms)))
    assert learned is not None
    usual = learned.fitting(500, 40)
    assert usual is not None
    most = loss_limit(usual, 0.01)
    assert most is not None
    assert 1.8 < np.exp(most) < 4  # a windy day is none
    assert loss_limit(Stretch(24, 20, 100, 20.0, 0.3, 0.05, 0.1), 0.01) is None


def test_what_archives_of_former_versions_tell_asks_for_a_day_and_as_many_rows() -> None:
    learned = read_usual(Usual(window=2500, windows=20.0, mean=0.2, sd=0.05, psi=0.02))
    assert learned is not None
    assert learned.reference_rows == 50_000
    assert learned.fitting(2499, 99) is None
    assert learned.fitting(2500, 11) is None
    assert learned.fitting(2500, 12) is not None
    assert read_usual(None) is None
