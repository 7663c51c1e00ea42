"""Traffic: a day's curve, a burst, and arrivals that are as many and as irregular as a Poisson process has them."""

import numpy as np
import pytest

from loadtests.capacity.simulation.traffic import Traffic

DAY = Traffic(peak=100, trough=0.2, burst=3, burst_at=50_000, burst_seconds=600)


def test_a_day_is_quiet_at_its_start_and_busiest_half_a_day_later() -> None:
    assert DAY.rate(0) == pytest.approx(20)
    assert DAY.rate(43_200) == pytest.approx(100)
    assert DAY.rate(86_400) == pytest.approx(20)
    assert Traffic(100, trough=0.2).expected(86_400) == pytest.approx(60 * 86_400, rel=1e-6)


def test_a_burst_multiplies_the_rate_as_long_as_it_lasts() -> None:
    assert DAY.rate(50_000) / DAY.rate(49_999) == pytest.approx(3, rel=0.001)
    assert DAY.rate(50_600) / DAY.rate(50_599) == pytest.approx(1 / 3, rel=0.001)


def test_arrivals_are_in_order_as_many_as_expected_and_do_not_know_of_each_other() -> None:
    times = np.array(list(Traffic(50.0).arrivals(2000.5, np.random.default_rng(0))))
    gaps = np.diff(times)
    assert (gaps >= 0).all()
    assert times[-1] < 2000.5
    assert len(times) == pytest.approx(Traffic(50.0).expected(2000.5), rel=0.01)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)  # exponential
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.02


def test_the_same_seed_has_the_same_arrivals() -> None:
    first, again, other = (list(DAY.arrivals(60, np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other
