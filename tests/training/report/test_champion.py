import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.registry import ArchiveError, Registry
from tests.support.documents import document
from tests.support.training.pages import Page
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, Trainings
from training.champion import RecipeChampion
from training.data import DataError
from training.figures.machine import machine
from training.packaging.registration import Result
from training.recipe import Data, Hyperparameters
from training.recipes.linear import Linear
from training.report.champion import Report, champion_report


@pytest.fixture
def store(trained: Trainings, linear: Result, quadrants: Result, tmp_path: Path) -> Registry:
    """A store in which linear and quadrants are champions, without pages."""
    shutil.copytree(trained.registry.store, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "reports")
    return Registry(tmp_path / "store")


def test_the_page_that_training_left_is_made_again_from_the_archive(store: Registry, quadrants: Result) -> None:
    found = champion_report(RecipeChampion(Quadrants(), CACHE), store)
    assert quadrants.report is not None
    assert found.page == store.store / "reports" / "quadrants-1.0.html"
    again, before = (Page(path.read_text()) for path in (found.page, quadrants.report))
    for section in ("metrics", "mistakes", "lineage"):
        assert again.section(section).words() == before.section(section).words()
    assert [one.words() for one in again.all("h3")] == [one.words() for one in before.all("h3")]


def test_the_archive_measures_as_its_contract_says(store: Registry, quadrants: Result) -> None:
    found, said = (
        document(champion_report(RecipeChampion(Quadrants(), CACHE), store).contract.evaluation),
        document(quadrants.contract.evaluation),
    )
    assert found["metrics"] == pytest.approx(said["metrics"], abs=1e-6)
    assert found["confusion"] == said["confusion"]
    assert found["calibration"]["temperature"] == pytest.approx(said["calibration"]["temperature"], rel=1e-3)


def test_the_result_has_a_flat_row_for_the_model_and_for_each_baseline(store: Registry) -> None:
    result = champion_report(RecipeChampion(Quadrants(), CACHE), store).result.to_document()
    assert (result["command"], result["model"], result["machine"]) == ("report", "quadrants", machine())
    names = ["quadrants, preset default", "always NE"]
    assert [row["model"] for row in result["rows"]] == names
    assert result["rows"][0]["accuracy"] > result["rows"][1]["accuracy"]
    assert result["calibration"].keys() == {"ece", "log_loss", "temperature", "scaled"}
    assert result["intervals"]["accuracy"][0] < result["rows"][0]["accuracy"]


def test_the_table_shows_the_results_figures(store: Registry) -> None:
    result = champion_report(RecipeChampion(Quadrants(), CACHE), store).result.to_document()
    head, _, model, baseline, _, told = Report.from_document(result).markdown().splitlines()
    assert head == "| model | accuracy | precision | recall | f1 | auc |"
    low, high = result["intervals"]["accuracy"]
    accuracy = result["rows"][0]["accuracy"]
    assert model.startswith(f"| quadrants, preset default | {accuracy:.4f} ({low:.4f} to {high:.4f}) |")
    assert baseline.startswith("| always NE | 0.")
    assert f"ECE {result['calibration']['ece']:.4f}" in told
    assert "Calibration" not in champion_report(RecipeChampion(Linear(), CACHE), store).result.markdown()


def test_slices_have_a_second_table_with_the_baselines_beside_the_model(store: Registry) -> None:
    class Halves(Quadrants):
        def load(self, hp: Hyperparameters, cache: Path) -> Data:
            data = super().load(hp, cache)
            halves = np.array(["upper", "lower"], object)[(data.test.inputs["north"] < 0).astype(int)]
            return replace(data, test=replace(data.test, slices=halves))

    result = champion_report(RecipeChampion(Halves(), CACHE), store).result.to_document()
    assert [(row["slice"], row["model"]) for row in result["slices"]] == [
        (half, model)
        for half in dict.fromkeys(row["slice"] for row in result["slices"])
        for model in ("quadrants, preset default", "always NE")
    ]
    assert sum(row["held_out"] for row in result["slices"]) == 2 * 200
    head, _, first, *_ = Report.from_document(result).markdown().splitlines()[-6:]
    assert head == "| slice | rows | model | accuracy | precision | recall | f1 | auc |"
    low, high = result["slices"][0]["intervals"]["accuracy"]
    assert f"| {result['slices'][0]['accuracy']:.4f} ({low:.4f} to {high:.4f}) |" in first


def test_other_data_than_the_champion_was_trained_on_is_an_error(store: Registry) -> None:
    class Changed(Linear):
        def load(self, hp: Hyperparameters, cache: Path) -> Data:
            data = super().load(self.presets["default"], cache)
            return Data(data.train, data.test, data.inputs, "0" * 64)

    with pytest.raises(DataError, match="linear 1.0 was trained on other data: train it again"):
        champion_report(RecipeChampion(Changed(), CACHE), store)


def test_without_a_champion_there_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="linear has no champion"):
        champion_report(RecipeChampion(Linear(), CACHE), Registry(tmp_path))
