"""Distances between rows and a summary, and how large they usually are."""

import numpy as np
import pytest

from training.statistics.distribution import chance_p, distance, name_of, of_categories, of_numbers, psi

NAMES = ("a", "b", "c")


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


def test_a_row_of_a_category_that_was_never_seen_is_no_surprise_among_thousands() -> None:
    constant = of_categories(np.zeros(8000, np.int64), NAMES)
    window = np.zeros(2500, np.int64)
    chances = []
    for others in (1, 2, 20):
        window[:others] = 3
        chances.append(chance_p(constant, window, 8000))
    assert chances[0] > 0.1
    assert chances[0] > chances[1] > chances[2]
    assert chances[2] < 1e-3
    assert chance_p(constant, np.zeros(2500, np.int64), 8000) == 1


def test_chance_alone_has_uniform_p_values_at_most() -> None:
    chance = np.random.default_rng(0)
    shares = [0.97, 0.02, 0.01]  # rare errors
    found = []
    for _ in range(200):
        known = of_categories(chance.choice(3, 1000, p=shares), NAMES)
        found.append(chance_p(known, chance.choice(3, 125, p=shares), 1000))
    assert np.mean(np.array(found) < 0.05) <= 0.08
    numbers = [chance_p(of_numbers(chance.normal(size=1000)), chance.normal(size=125), 1000) for _ in range(200)]
    assert np.mean(np.array(numbers) < 0.05) <= 0.08


def test_a_change_that_chance_does_not_explain_has_a_small_p_value() -> None:
    chance = np.random.default_rng(0)
    known = of_numbers(chance.normal(size=5000))
    assert chance_p(known, chance.normal(size=500) + 0.5, 5000) < 1e-6
    labels = of_categories(chance.choice(3, 5000, p=[0.6, 0.3, 0.1]), NAMES)
    assert chance_p(labels, chance.choice(3, 500, p=[0.4, 0.3, 0.3]), 5000) < 1e-6
