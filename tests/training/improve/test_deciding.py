"""Ablation, search and compression judge by the metric that a recipe names, and say so."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from handlers.contract import Array
from serving.settings import Folders
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, load
from training.fitting.fit import fit
from training.improve import ablate, budget
from training.improve.budget import Budget
from training.improve.optimize.measure import by_slice, quality
from training.improve.sharing.results import FileResults
from training.improve.sharing.runs import Runs
from training.packaging.export import predict, serving_module
from training.recipe import Data, Hyperparameters
from training.statistics.criteria import Criterion
from training.statistics.decisive import value

DEAR = tuple(tuple(0.0 if i == j else 9.0 if i == 2 else 1.0 for j in range(4)) for i in range(4))  # SW is missed
CRITERIA = (Criterion("auc", "SW"), Criterion("recall_at_precision", "SW", 0.9), Criterion("cost", costs=DEAR))


class Corners(Quadrants):
    """Quadrants that are judged by a metric of a test's choice, and count their trainings."""

    presets: ClassVar[dict[str, Hyperparameters]] = {"slow": Hyperparameters(epochs=2, batch_size=50, lr=2e-3)}

    def __init__(self, by: Criterion | None) -> None:
        self.decides = by  # type: ignore[misc]
        self.fitted = 0

    def module(self, hp: Hyperparameters, data: Data) -> Any:
        self.fitted += 1
        return super().module(hp, data)


def votes(classes: Array) -> Array:
    return np.eye(4, dtype=np.float32)[classes]


@pytest.mark.parametrize("by", CRITERIA, ids=lambda by: by.metric)
def test_an_ablation_measures_what_decides_and_combines_what_helped_by_it(by: Criterion, tmp_path: Path) -> None:
    found = ablate.ablate(Corners(by), Folders(tmp_path, tmp_path), Budget(seeds=1), only=["rate × 5", "L1"])
    text, result = found.markdown(), found.to_document()
    assert result["metric"] == by.name
    rows = {row["practice"]: row for row in result["rows"]}
    data = budget.within(load(Quadrants()), None)
    trained = fit(Quadrants(), replace(Corners.presets["slow"], lr=0.01), data, tmp_path)
    output = predict(serving_module(trained), data.test)
    assert rows["rate × 5"]["test"] == pytest.approx(value(by, Quadrants.labels, output, data.test.target))
    gap = rows["rate × 5"]["train"] - rows["rate × 5"]["test"]
    assert rows["rate × 5"]["gap"] == pytest.approx(gap if by.more else -gap)
    assert (rows["rate × 5"]["difference"] > 0) is by.more  # it learns faster
    (curve,) = (one["values"] for one in result["curves"] if one["practice"] == "rate × 5")
    assert data.validation
    watched = predict(serving_module(trained), data.validation)
    assert curve[-1] == pytest.approx(value(by, Quadrants.labels, watched, data.validation.target))
    assert f"test {by.name}" in text


def test_of_what_is_cheaper_the_practices_that_helped_are_chosen(tmp_path: Path) -> None:
    recipe = Corners(Criterion("cost", costs=DEAR))
    data = budget.within(load(recipe), None)
    runs = Runs(recipe, data, Budget(seeds=1), FileResults(tmp_path), math.inf, lambda text: None)
    *_, (name, changes, _) = ablate._variants(runs, "slow", recipe.presets["slow"], [])
    assert name == "those that helped"
    assert changes["lr"] == pytest.approx(0.01)


def test_runs_that_were_kept_of_another_metric_are_not_taken_for_runs_of_this_one(tmp_path: Path) -> None:
    results = []
    for by, fitted in ((None, 2), (CRITERIA[0], 2), (CRITERIA[1], 2), (CRITERIA[0], 0), (Criterion("accuracy"), 0)):
        recipe = Corners(by)
        results.append(ablate.ablate(recipe, Folders(tmp_path, tmp_path), Budget(epochs=1, seeds=1), only=["L1"]))
        assert recipe.fitted == fitted
    assert results[1] == results[3]
    assert results[0] == results[4]


@pytest.mark.parametrize("by", CRITERIA, ids=lambda by: by.metric)
def test_a_search_goes_by_what_decides(by: Criterion, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[search]'")
    from training.improve import search
    from training.improve.search_report import BEST, draw_search, gain

    told: list[str] = []
    options = (Folders(CACHE, tmp_path), Budget(trials=6, seeds=1), None, 0)
    found = search.search(Corners(by), *options, told.append)
    result = found.to_document()
    assert result["metric"] == by.name
    assert f"trial 0 complete: val_{by.name} " in told[0]
    complete = [trial for trial in result["trials"] if trial["state"] == "complete"]
    best = (max if by.more else min)(complete, key=lambda trial: trial["value"])
    assert result["found"] == {name: best[name] for name in result["found"]}
    data = budget.within(load(Quadrants()), None)
    assert data.validation
    trained = fit(Quadrants(), replace(Corners.presets["slow"], **result["found"]), data, tmp_path)
    output = predict(serving_module(trained), data.validation)
    assert best["value"] == pytest.approx(value(by, Quadrants.labels, output, data.validation.target))
    before, after = (row["validation"] for row in result["rows"])
    assert gain(by.name, found.rows, "validation") == pytest.approx([after - before if by.more else before - after])
    assert result["better"] == (gain(by.name, found.rows, "validation")[0] > 0)
    assert f"| {by.name}, watched |" in found.markdown()
    assert BEST in found.markdown()
    draw_search(found, tmp_path / "search.png")
    plain = search.search(Corners(None), *options)
    assert plain.metric == "accuracy"
    assert len(plain.trials) == 6  # of a study of its own


def test_rows_that_do_not_tell_what_decides_are_refused_before_the_work(tmp_path: Path) -> None:
    class Northern(Corners):
        def load(self, hp: Hyperparameters, cache: Path) -> Data:
            data = super().load(hp, cache)
            return replace(data, test=data.test.part(data.test.target < 2))

    recipe = Northern(CRITERIA[0])
    with pytest.raises(ValueError, match="held-out rows do not tell the metric that decides, auc of SW"):
        ablate.ablate(recipe, Folders(tmp_path, tmp_path), Budget())
    assert recipe.fitted == 0


def test_a_variant_that_is_as_accurate_and_dearer_loses_points() -> None:
    data = load(Quadrants())
    target = data.test.target
    (west,) = np.nonzero(target == 2)
    (east,) = np.nonzero(target == 0)
    cheap, dear = target.copy(), target.copy()
    cheap[east[:8]] = 1
    dear[west[:8]] = 1  # as many wrong answers, each nine times as dear
    by_accuracy = quality(Corners(None), data, votes(dear), votes(cheap))
    assert by_accuracy.value == pytest.approx(1 - 8 / len(target))
    assert by_accuracy.drop == 0
    by_cost = quality(Corners(CRITERIA[2]), data, votes(dear), votes(cheap))
    assert by_cost.value == pytest.approx(72 / len(target))
    assert by_cost.drop == pytest.approx(800)  # percent of the reference's cost
    assert by_cost.drop_low < 800 < by_cost.drop_high
    better = quality(Corners(CRITERIA[2]), data, votes(cheap), votes(dear))
    assert better.drop == pytest.approx(-100 * 8 / 9)
    at = quality(Corners(CRITERIA[1]), data, votes(dear), votes(target))
    recall = 1 - 8 / len(west)
    assert at.value == pytest.approx(recall)
    assert at.drop == pytest.approx(100 * (1 - recall))


def test_a_part_that_does_not_tell_what_decides_has_no_figure() -> None:
    data = load(Quadrants())
    names = np.where(data.test.target == 2, "south-west", "elsewhere").astype(object)
    parts = by_slice(
        Corners(CRITERIA[0]), replace(data, test=replace(data.test, slices=names)), votes(data.test.target)
    )
    assert parts.keys() == {"south-west: auc of SW", "elsewhere: auc of SW"}
    assert np.isnan(list(parts.values())).all()
