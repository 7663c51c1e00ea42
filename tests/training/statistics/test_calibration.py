from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from handlers.contract import Array
from tests.support.documents import document
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import Trainings
from tests.training.conftest import Train
from training.packaging import export
from training.packaging.registration import Result
from training.recipe import Trained
from training.recipes.linear import Linear
from training.statistics import calibration


def two_classes(confidence: list[float]) -> Array:
    """Answers of the first of two classes, so sure."""
    return np.array([[p, 1 - p] for p in confidence])


def sharpened(rows: int, temperature: float) -> tuple[Array, Array]:
    """Probabilities that a temperature would make exactly right, and truths drawn from the right ones."""
    random = np.random.default_rng(0)
    right = random.dirichlet([1, 1, 1], rows)
    target = (right.cumsum(1) > random.random((rows, 1))).argmax(1)
    return calibration.scaled(right, 1 / temperature), target


def test_the_expected_calibration_error_is_the_one_computed_by_hand() -> None:
    probabilities = two_classes([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    target = np.array([0, 0, 1, 1, 0, 0])  # of the sure ones half are right, of the others all
    bins = calibration.reliability(probabilities, target)
    assert [one.rows for one in bins] == [2, 4]
    assert [one.confidence for one in bins] == pytest.approx([0.6, 0.9])
    assert [one.accuracy for one in bins] == [1.0, 0.5]
    assert calibration.expected_error(bins) == pytest.approx((4 * 0.4 + 2 * 0.4) / 6)


def test_the_expected_calibration_error_is_torchmetrics() -> None:
    probabilities, target = sharpened(3000, 2.0)
    found = calibration.expected_error(calibration.reliability(probabilities, target))
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(target), 3, n_bins=calibration.BINS
    )
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_the_log_loss_is_the_one_computed_by_hand_and_finite_for_a_certain_error() -> None:
    assert calibration.log_loss(two_classes([0.5, 0.25]), np.array([0, 0])) == pytest.approx(np.log(8) / 2)
    assert calibration.log_loss(two_classes([1.0]), np.array([1])) < 30


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    assert calibration.fit_temperature(*sharpened(20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_a_temperature_lowers_log_loss_and_calibration_error_and_changes_no_answer() -> None:
    probabilities, target = sharpened(6000, 3.0)
    temperature = calibration.fit_temperature(probabilities[:3000], target[:3000])
    held_out, truth = probabilities[3000:], target[3000:]
    found = document(calibration.calibration(held_out, truth, temperature))
    assert found["scaled"]["log_loss"] < found["log_loss"]
    assert found["scaled"]["ece"] < found["ece"] / 2
    after = calibration.scaled(held_out, temperature)
    np.testing.assert_array_equal(after.argmax(1), held_out.argmax(1))
    np.testing.assert_allclose(after.sum(1), 1)


def test_the_contract_offers_the_temperature_that_suits_the_validation_rows(
    quadrants: object, trained: Trainings
) -> None:
    contract = trained.registry.champion_contract("quadrants")
    found = document(contract.evaluation)["calibration"]
    assert "temperature" not in document(contract.lineage)
    assert found["scaled"]["log_loss"] < found["log_loss"]
    assert sum(one["rows"] for one in found["bins"]) == 200


def test_a_calibrated_graph_holds_the_temperature(quadrants: Result, train: Train) -> None:
    plain, calibrated = quadrants.contract, train(Quadrants(), "default", calibrate=True).contract
    offered = document(plain.evaluation)["calibration"]
    assert document(calibrated.lineage)["temperature"] == pytest.approx(offered["temperature"], rel=1e-3)
    assert document(calibrated.lineage)["hyperparameters"]["calibrate"] is True
    served = document(calibrated.evaluation)["calibration"]
    assert served["log_loss"] == pytest.approx(offered["scaled"]["log_loss"], abs=1e-5)
    assert served["temperature"] == pytest.approx(1, abs=0.01)  # nothing more to gain
    assert document(calibrated.evaluation)["metrics"]["accuracy"] == document(plain.evaluation)["metrics"]["accuracy"]


def test_the_served_module_divides_logits_by_the_temperature(tmp_path: Path) -> None:
    recipe = Quadrants()
    data = recipe.load(recipe.preset(None), tmp_path)
    one = Trained(recipe, recipe.preset(None), data, recipe.module(recipe.preset(None), data))
    sure, unsure = (
        export.predict(export.serving_module(replace(one, temperature=temperature)), data.test)
        for temperature in (1.0, 4.0)
    )
    np.testing.assert_allclose(unsure, calibration.scaled(sure, 4.0), atol=1e-6)


def test_what_cannot_be_calibrated_is_refused_before_it_is_fitted(train: Train) -> None:
    told: list[str] = []
    with pytest.raises(ValueError, match="linear cannot be calibrated: it is no classification"):
        train(Linear(), "default", calibrate=True, step=told.append)
    assert not any("evaluating" in text for text in told)


class Unwatched(Quadrants):
    """Keeps no validation rows."""

    def load(self, hp, cache):  # type: ignore[no-untyped-def]
        return replace(super().load(hp, cache), validation=None)


def test_without_validation_rows_nothing_is_offered_and_calibrating_is_refused(train: Train) -> None:
    found = document(train(Unwatched(), "lazy").contract.evaluation)["calibration"]
    assert found.keys() == {"ece", "log_loss", "bins"}
    with pytest.raises(ValueError, match="quadrants cannot be calibrated: its recipe keeps no validation rows"):
        train(Unwatched(), "lazy", calibrate=True)
