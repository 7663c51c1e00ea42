"""Distances between rows and a summary, and how large they usually are."""

import numpy as np
import pytest
from scipy import stats

from training.distribution import (
    FEWEST,
    WINDOW,
    Array,
    distance,
    limit,
    name_of,
    of_categories,
    of_numbers,
    p_value,
    psi,
    usual,
    window_of,
)

NAMES = ("a", "b", "c")


def restless(rows: int, chance: np.random.Generator) -> Array:
    """Numbers whose level wanders: neighbours in time are alike, as in weather."""
    level = np.repeat(chance.normal(size=rows // 100 + 1), 100)[:rows]
    return level + chance.normal(size=rows)


def test_the_distance_of_numbers_is_the_largest_gap_between_the_cumulative_shares() -> None:
    summary = of_numbers(np.linspace(0, 1, 10_001))
    assert name_of(summary) == "ks"
    assert distance(summary, np.linspace(0, 1, 500)) == pytest.approx(0, abs=0.01)
    assert distance(summary, np.linspace(0.25, 1.25, 500)) == pytest.approx(0.25, abs=0.01)
    assert distance(summary, np.linspace(2, 3, 500)) == 1


def test_the_distance_of_categories_is_0_for_the_same_shares_and_1_for_nothing_in_common() -> None:
    summary = of_categories(np.array([0, 1] * 50), NAMES)
    assert name_of(summary) == "js"
    assert distance(summary, np.array([0, 1])) == 0
    assert distance(summary, np.array([2, 2])) == pytest.approx(1)
    assert distance(summary, np.array([3])) == pytest.approx(1)  # a category that the summary lacks


def test_the_stability_index_is_that_of_its_formula_and_finite_with_empty_bins() -> None:
    summary = of_categories(np.arange(100_000) % 2, NAMES[:2])
    window = (np.arange(100_000) % 10 == 0).astype(np.int64)  # 90 % and 10 %
    assert psi(summary, window) == pytest.approx(0.4 * np.log(1.8) + 0.4 * np.log(5), rel=1e-3)
    numbers = of_numbers(np.linspace(0, 1, 10_001))
    assert psi(numbers, np.linspace(0, 1, 1000)) < 0.01
    assert 1 < psi(numbers, np.full(1000, 2.0)) < 20


def test_the_window_shrinks_with_the_rows_until_nothing_can_be_said() -> None:
    assert window_of(10**6) == WINDOW
    assert window_of(8000) == 1000
    assert window_of(8 * FEWEST) == FEWEST
    assert window_of(8 * FEWEST - 1) == 0
    assert usual(np.arange(8 * FEWEST - 1), of_numbers) is None


def test_what_is_usual_knows_that_neighbours_are_alike_where_a_formula_cries_wolf() -> None:
    chance = np.random.default_rng(0)
    known = restless(20_000, chance)
    learned = usual(known, of_numbers)
    assert learned is not None
    summary, fresh = of_numbers(known), restless(200 * WINDOW, chance).reshape(200, WINDOW)
    formula = np.array([stats.ks_2samp(window, known).pvalue for window in fresh[:50]])
    assert (formula < 0.01).mean() > 0.5
    assert np.mean([p_value(learned, distance(summary, window)) < 0.01 for window in fresh]) <= 0.03
    assert np.mean([psi(summary, window) > learned["psi"] for window in fresh]) <= 0.06
    assert p_value(learned, distance(summary, fresh[0] + 3)) < 1e-4


def test_p_values_of_rows_in_no_order_are_about_uniform() -> None:
    chance = np.random.default_rng(1)
    known = chance.integers(3, size=20_000)
    learned = usual(known, lambda values: of_categories(values, NAMES))
    assert learned is not None
    summary = of_categories(known, NAMES)
    values = [p_value(learned, distance(summary, chance.integers(3, size=WINDOW))) for _ in range(300)]
    assert 0.3 < np.mean(np.array(values) < 0.5) < 0.7
    assert np.mean(np.array(values) < 0.05) < 0.12


def test_the_limit_is_the_distance_whose_p_value_is_the_level() -> None:
    learned = {"window": 100, "windows": 20.0, "mean": 0.3, "sd": 0.05, "psi": 0.1}
    assert p_value(learned, limit(learned, 0.01)) == pytest.approx(0.01)


def test_what_never_changed_alarms_at_the_first_change() -> None:
    learned = usual(np.zeros(1000), of_numbers)
    assert learned is not None
    assert p_value(learned, 0.0) == 1
    assert p_value(learned, 0.01) == 0
