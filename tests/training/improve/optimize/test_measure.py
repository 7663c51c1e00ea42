from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handlers.contract import Array
from handlers.engine import OnnxRuntimeEngine
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import load
from tests.training.improve.optimize.test_quantize import dynamic, static
from training import recipes
from training.champion import FittedChampion
from training.improve.optimize import memory, speed
from training.improve.optimize.measure import batch_effect, by_slice, measure, quality
from training.improve.optimize.variants import REFERENCE, Variant
from training.recipe import Data


def votes(classes: Array) -> Array:
    return np.eye(4, dtype=np.float32)[classes]


@pytest.fixture
def data() -> Data:
    return load(Quadrants())


def test_a_point_of_a_classification_is_a_hundredth_of_accuracy(data: Data) -> None:
    target = data.test.target
    worse = target.copy()
    worse[:10] = (worse[:10] + 1) % 4
    found = quality(Quadrants(), data, votes(worse), votes(target))
    assert found.value == pytest.approx(0.95)
    assert found.drop == pytest.approx(5.0)
    assert 1 < found.drop_low < 5 < found.drop_high < 10
    assert found.agreement == pytest.approx(0.95)
    assert found.difference == 1
    better = quality(Quadrants(), data, votes(target), votes(worse))
    assert better.drop == pytest.approx(-5.0)
    assert better.drop_high == pytest.approx(-found.drop_low)


def test_the_interval_is_paired_by_rows(data: Data) -> None:
    """Two that err on the same rows are the same, however many rows these are."""
    wrong = (data.test.target + (np.arange(200) % 2)) % 4
    found = quality(Quadrants(), data, votes(wrong), votes(wrong))
    assert found.value == pytest.approx(0.5)
    assert (found.drop, found.drop_low, found.drop_high) == (0, 0, 0)


def test_a_point_of_a_regression_is_a_percent_of_the_references_rmse() -> None:
    recipe = recipes.find("linear")
    data = load(recipe)
    noise = np.random.default_rng(0).normal(size=len(data.test)).astype(np.float32)
    reference, worse = (data.test.target + scale * noise for scale in (1.0, 1.1))
    found = quality(recipe, data, worse, reference)
    assert found.value == pytest.approx(1.1 * float(np.sqrt(np.mean(noise**2))), rel=1e-3)
    assert found.drop == pytest.approx(10, rel=1e-3)
    assert found.drop_low <= found.drop <= found.drop_high
    assert found.agreement is None


def test_an_exact_reference_leaves_no_division_by_zero() -> None:
    recipe = recipes.find("linear")
    data = load(recipe)
    exact = data.test.target
    assert quality(recipe, data, exact, exact).drop == 0
    assert 0.5 < quality(recipe, data, exact + np.float32(0.01), exact).drop_high < np.inf


def test_no_numbers_have_no_quality(data: Data) -> None:
    broken = votes(data.test.target)
    broken[3] = np.nan
    found = quality(Quadrants(), data, broken, votes(data.test.target))
    assert np.isnan(found.value)
    assert np.isnan(found.drop_high)


def test_every_part_of_the_held_out_rows_is_measured_by_itself(data: Data) -> None:
    target = data.test.target
    half = np.array(["east"] * 100 + ["west"] * 100, object)
    wrong = np.where(half == "east", (target + 1) % 4, target)
    parts = replace(data, test=replace(data.test, slices=half))
    assert by_slice(Quadrants(), parts, votes(wrong)) == {"east: accuracy": 0, "west: accuracy": 1}
    assert by_slice(Quadrants(), data, votes(wrong)) == {}


class Company:
    """Answers with the mean of the batch."""

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """All rows alike."""
        x = tensors["x"]
        return {"y": np.full(len(x), x.mean())}


def test_an_answer_that_depends_on_the_batch_is_found_out() -> None:
    batch = {"x": np.array([1.0, 2.0, 6.0])}
    assert batch_effect(recipes.find("linear"), Company(), batch, "y") == pytest.approx((6 - 3) / 3)


def test_static_int8_answers_a_row_alike_in_any_batch_and_dynamic_does_not(
    champion: FittedChampion, tmp_path: Path
) -> None:
    recipe = Quadrants()
    batch = speed.batches(recipe, champion.trained.data.test)[64][0]
    effects = {}
    for convert in (dynamic, static):
        engine = OnnxRuntimeEngine(convert(champion, tmp_path), champion.contract, 1)
        effects[convert.__name__] = batch_effect(recipe, engine, batch, "probabilities")
    assert effects["dynamic"] > 1e-3 > 1e-6 > effects["static"]


def test_every_variant_is_measured_beside_the_reference(champion: FittedChampion, tmp_path: Path) -> None:
    graphs = static(champion, tmp_path)
    variants = [
        Variant(REFERENCE, champion.graphs, champion.trained),
        Variant("int8 static", graphs, champion.trained, "int8 static"),
    ]
    told: list[str] = []
    rows = measure(champion, variants, threads=1, seconds=0.01, step=told.append)
    first, second = (row.to_document() for row in rows)
    assert told == ["measuring float32", "measuring int8 static", "timing all of them in turns"]
    assert first["accuracy"] == pytest.approx(champion.contract.evaluation.metrics["accuracy"])
    assert (first["drop"], first["speedup"], first["agreement"], first["difference"]) == (0, 1, 1, 0)
    assert second["bytes"] == (graphs / "model.onnx").stat().st_size
    assert first["parameters"] == second["parameters"] == 2 * 16 + 16 + 16 * 4 + 4
    for row in (first, second):
        assert 0 < row["p50_1_ms"] <= row["p99_1_ms"]
        assert 0 < row["p50_64_ms"] <= row["p99_64_ms"]
        assert row["rows_per_second"] == pytest.approx(64_000 / row["p50_64_ms"], rel=0.9)
        assert 0 <= row["memory_bytes"] < 50e6


def test_a_larger_graph_takes_more_memory(champion: FittedChampion, tmp_path: Path) -> None:
    batch = speed.batches(Quadrants(), champion.trained.data.test)[64][0]
    small = memory.session_bytes(champion.graphs, champion.contract, batch, 1)
    many = {name: np.resize(values, 400_000) for name, values in batch.items()}
    assert memory.session_bytes(champion.graphs, champion.contract, many, 1) > small + 10e6
