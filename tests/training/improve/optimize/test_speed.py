from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handlers.contract import Array
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import load
from training import recipes
from training.improve.optimize import speed


class Clock:
    """A clock that moves only while an engine works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """Takes a given time for each row, and remembers what it was asked."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self.asked: list[float] = []

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Let the time pass."""
        x = tensors["x"]
        self.asked.append(float(x[0]))
        self._clock.now += self._seconds * len(x)
        return {"y": x}


def work(size: int) -> dict[int, list[speed.Batch]]:
    return {size: [{"x": np.full(size, float(i))} for i in range(64)]}


def test_an_engine_that_takes_a_third_of_the_time_is_three_times_as_fast() -> None:
    clock = Clock()
    engines = {"slow": Slow(3e-4, clock), "fast": Slow(1e-4, clock)}
    found = speed.race(engines, work(1), 0.1, clock=clock)
    assert speed.speedup(found["fast"], found["slow"]) == pytest.approx((3, 3, 3))
    assert found["slow"][1].milliseconds(0.5) == pytest.approx(0.3)
    assert found["fast"][1].rows_per_second == pytest.approx(10_000)


def test_both_sizes_count_alike() -> None:
    def times(alone: float, together: float) -> dict[int, speed.Times]:
        each = {1: alone, 64: together}
        return {size: speed.Times(size, np.full((speed.ROUNDS, 3), seconds)) for size, seconds in each.items()}

    assert speed.speedup(times(1, 8), times(2, 16)) == pytest.approx((2, 2, 2))
    assert speed.speedup(times(1, 8), times(4, 8))[0] == pytest.approx(2)


def test_every_engine_is_asked_the_same_in_as_many_rounds() -> None:
    clock = Clock()
    first, second = Slow(1e-5, clock), Slow(1e-5, clock)
    found = speed.race({"first": first, "second": second}, work(2), 0.02, clock=clock)
    assert found["first"][2].seconds.shape == found["second"][2].seconds.shape
    assert len(found["first"][2].seconds) == speed.ROUNDS
    assert set(second.asked) == set(first.asked)
    assert len(set(second.asked)) > 10  # not always the same


def test_batches_come_from_all_over_the_split() -> None:
    recipe = Quadrants()
    split = load(recipe).test
    found = speed.batches(recipe, split)
    assert {size: {len(batch["east"]) for batch in rows} for size, rows in found.items()} == {1: {1}, 64: {64}}
    assert found[1][0]["east"][0] == split.inputs["east"][0]
    assert found[1][-1]["east"][0] == split.inputs["east"][196]


def test_a_split_shorter_than_a_batch_fills_it_by_starting_over() -> None:
    recipe = Quadrants()
    few = load(recipe).test.head(5)
    assert speed.batches(recipe, few)[64][0]["east"].tolist() == np.resize(few.inputs["east"], 64).tolist()


def test_texts_are_as_long_as_the_longest_of_their_batch(tmp_path: Path) -> None:
    recipe = recipes.find("sentiment")
    test = load(recipe).test
    found = speed.batches(recipe, replace(test, texts={}))
    lengths = {batch["text"].shape[1] for batch in found[1]}
    assert len(lengths) > 5
    assert max(lengths) <= test.inputs["text"].shape[1]
