"""The judge's errors of both kinds, counted on simulated models whose truth is known."""

from collections.abc import Callable

import numpy as np
import pytest

from handlers.contract import Array
from training.statistics.paired import Losses, compare_slices, gain

CONFIDENCE = 0.95
MODELS = 600  # that are judged in a simulation: one in a hundred is a standard error of 0.9 % of them


def regression(chance: np.random.Generator, rows: int, better: float = 1.0) -> Losses:
    """Two models of the same mistakes, mostly: a heavy-tailed one that no model can know, and an own one each."""
    common, *own = chance.standard_t(4, (3, rows))
    return Losses(
        champion=(common + 0.5 * own[0]) ** 2, challenger=(better * (common + 0.5 * own[1])) ** 2, rooted=True
    )


def weather(chance: np.random.Generator, rows: int) -> Losses:
    """Neighbours in time err alike, in stretches of half a block."""
    common, *own = np.repeat(chance.normal(size=(3, 100)), rows // 100, axis=1) + chance.normal(size=(3, rows))
    return Losses(champion=(common + 0.5 * own[0]) ** 2, challenger=(common + 0.5 * own[1]) ** 2, rooted=True)


def classification(chance: np.random.Generator, rows: int, right: float = 0.9) -> Losses:
    hard = chance.uniform(size=rows) < 0.3
    champion, challenger = (hard & (chance.uniform(size=rows) < (1 - share) / 0.3) for share in (0.9, right))
    return Losses(champion=champion.astype(float), challenger=challenger.astype(float), rooted=False)


def promoted(simulate: Callable[[np.random.Generator], Losses], margin: float = 0.0, models: int = MODELS) -> float:
    chance = np.random.default_rng(1)
    return float(np.mean([gain(simulate(chance), CONFIDENCE).low > margin for _ in range(models)]))


@pytest.mark.parametrize("rows", [200, 3000])
@pytest.mark.parametrize("simulate", [regression, weather, classification])
def test_of_equal_models_at_most_one_in_twenty_or_so_is_promoted(
    simulate: Callable[[np.random.Generator, int], Losses], rows: int
) -> None:
    assert 0.03 < promoted(lambda chance: simulate(chance, rows)) < 0.07


def test_better_models_are_promoted_but_not_over_a_margin_that_they_just_reach() -> None:
    def better(chance: np.random.Generator) -> Losses:
        return regression(chance, 3000, better=0.9)

    assert promoted(better, models=100) > 0.95
    assert promoted(better, margin=0.1) < 0.07
    assert promoted(lambda chance: classification(chance, 3000, right=0.93), models=100) > 0.95


def test_the_figures_are_those_of_the_rows_as_they_are() -> None:
    losses = Losses(champion=np.array([4.0, 4.0, 16.0]), challenger=np.array([1.0, 1.0, 4.0]), rooted=True)
    found = gain(losses, CONFIDENCE)
    assert (found.champion, found.challenger) == pytest.approx((np.sqrt(8), np.sqrt(2)))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    shares = gain(
        Losses(champion=np.array([1.0, 1.0, 0.0, 0.0]), challenger=np.array([1.0, 0.0, 0.0, 0.0]), rooted=False),
        CONFIDENCE,
    )
    assert (shares.champion, shares.challenger, shares.value) == (0.5, 0.25, 0.5)
    assert shares.low <= shares.value <= shares.high


def test_one_row_has_a_gain_without_width() -> None:
    found = gain(Losses(champion=np.array([4.0]), challenger=np.array([1.0]), rooted=True), CONFIDENCE)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def ten(rows: int, chance: np.random.Generator) -> dict[str, Array]:
    places = chance.integers(10, size=rows)
    return {str(place): places == place for place in range(10)}


def refused(worse: float, rows: int = 3000, models: int = 150) -> float:
    """The share of models that are refused for one slice of ten, or more, of which they are worse on the first."""
    chance, count = np.random.default_rng(2), 0
    for _ in range(models):
        slices = ten(rows, chance)
        losses = regression(chance, rows)
        losses.challenger[slices["0"]] *= worse**2
        found = compare_slices(losses, slices, 0.1, CONFIDENCE)
        count += any(one.worse for one in found)
        assert worse == 1 or not any(one.worse for one in found[1:])
    return count / models


def test_an_equal_model_is_hardly_ever_refused_for_a_slice_and_one_that_is_30_percent_worse_on_it_is() -> None:
    assert refused(1.0) < 0.05
    assert refused(1.0, rows=1000) < 0.05
    assert refused(1.3, rows=10_000) > 0.95


def test_a_slice_tells_its_rows_and_both_errors() -> None:
    losses = Losses(champion=np.array([1.0, 4.0, 4.0]), challenger=np.array([1.0, 16.0, 16.0]), rooted=True)
    first, second = compare_slices(losses, {"a": np.array([1, 0, 0], bool), "b": np.array([0, 1, 1], bool)}, 0.1, 0.95)
    assert (first.name, first.rows, first.champion, first.challenger, first.worse) == ("a", 1, 1, 1, False)
    assert (second.name, second.rows, second.champion, second.challenger, second.worse) == ("b", 2, 2, 4, True)
    assert second.excess == pytest.approx(4 - 1.1 * 2)
    assert compare_slices(losses, {}, 0.1, 0.95) == []


def test_a_slice_that_the_champion_gets_wholly_right_may_have_an_error_by_chance_but_not_many() -> None:
    right, inside = np.zeros(1000), {"a": np.arange(1000) % 5 == 0}
    for wrong, worse in ((1, False), (60, True)):
        challenger = np.zeros(1000)
        challenger[np.random.default_rng(0).choice(np.flatnonzero(inside["a"]), wrong, replace=False)] = 1
        (found,) = compare_slices(Losses(champion=right, challenger=challenger, rooted=False), inside, 0.1, CONFIDENCE)
        assert found.worse == worse
