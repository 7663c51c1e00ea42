"""The autoscaler's rules, as Kubernetes documents them."""

import pytest

from loadtests.capacity.simulation.autoscaler import Autoscaler, Autoscaling

RULES = Autoscaling(least=2, most=40, target=0.5)


def decided(replicas: int, values: list[float], silent: int = 0, now: float = 0.0) -> int:
    return Autoscaler(RULES, replicas).decide(now, values, silent)


@pytest.mark.parametrize("value", [0.46, 0.5, 0.54])
def test_within_the_tolerance_nothing_changes(value: float) -> None:
    assert decided(10, [value] * 10) == 10


def test_the_number_grows_as_the_metric_is_over_its_target() -> None:
    assert decided(10, [0.6] * 10) == 12
    assert decided(10, [0.6] * 5 + [0.75] * 5) == 14  # 13.5


def test_it_grows_by_the_double_or_by_four_at_most() -> None:
    assert decided(10, [1.5] * 10) == 20
    assert decided(2, [9.0] * 2) == 6


def test_it_stays_between_its_bounds() -> None:
    scaler = Autoscaler(RULES, 30)
    assert scaler.decide(0.0, [1.0] * 30, 0) == 40
    assert decided(2, [0.0] * 2) == 2


def test_it_shrinks_once_nothing_more_was_recommended_for_five_minutes() -> None:
    scaler = Autoscaler(RULES, 10)
    assert scaler.decide(0.0, [0.5] * 10, 0) == 10
    assert [scaler.decide(float(time), [0.25] * 10, 0) for time in range(15, 301, 15)] == [10] * 20
    assert scaler.decide(315.0, [0.25] * 10, 0) == 5


def test_those_that_start_count_as_idle_so_that_it_does_not_grow_twice_for_one_burst() -> None:
    assert decided(20, [1.0] * 10, silent=10) == 20
    assert decided(20, [1.5] * 10, silent=10) == 30


def test_those_without_a_value_count_as_on_target_while_it_shrinks() -> None:
    assert decided(10, [0.25] * 5, silent=5, now=400.0) == 8


def test_without_any_value_nothing_changes() -> None:
    assert decided(7, [], silent=7) == 7
