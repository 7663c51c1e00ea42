import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers.contract import Array, ModelContract
from handlers.engine import ENGINES
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import Request
from serving.registry import ArchiveError, Registry, file_sha256
from tests.support.training.published import publish_again
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, Trainings
from tests.training.conftest import Train
from training.champion import FittedChampion, open_champion
from training.packaging.registration import Promote, Result
from training.recipe import Data, Recipe
from training.recipes.linear import Linear


@pytest.fixture
def store(trained: Trainings, linear: Result, quadrants: Result, tmp_path: Path) -> Registry:
    """A store in which linear and quadrants are champions, for this test to change."""
    shutil.copytree(trained.registry.store, tmp_path / "store")
    return Registry(tmp_path / "store")


Open = Callable[[Recipe[Any]], FittedChampion]


@pytest.fixture
def champion(store: Registry, tmp_path: Path) -> Open:
    """Opens the champion of a recipe, whose graphs can be published once more without another training."""
    return lambda recipe: open_champion(recipe, store, CACHE, tmp_path / "graphs")


def states(registry: Registry, name: str) -> dict[str, str]:
    return {number: version.state for number, version in registry.models()[name].items()}


def test_the_first_version_is_champion(trained: Trainings, linear: Result) -> None:
    assert (linear.state, linear.why) == ("champion", "the first version")
    number, version = trained.registry.champions()["linear"]
    assert (number, version.archive) == ("1.0", "linear-1.0.mar")
    assert version.sha256 == file_sha256(linear.archive)
    assert version.measured == linear.contract.evaluation
    assert version.created == linear.contract.lineage.created


def test_a_worse_version_is_challenger_and_the_champion_stays(store: Registry, champion: Open) -> None:
    result = publish_again(champion(Linear()), store, rmse=1.0)
    assert result.state == "challenger"
    assert result.why.startswith("rmse ")
    assert "is worse than the champion's 0.0000" in result.why
    assert states(store, "linear") == {"1.0": "champion", "1.1": "challenger"}
    assert store.champions()["linear"][0] == "1.0"


def test_a_less_accurate_classifier_is_challenger(store: Registry, champion: Open) -> None:
    result = publish_again(champion(Quadrants()), store, accuracy=0.25)
    assert result.state == "challenger"
    assert result.why.startswith("accuracy 0.")
    assert states(store, "quadrants") == {"1.0": "champion", "1.1": "challenger"}


def test_a_version_as_good_as_the_champion_takes_its_place(store: Registry, train: Train) -> None:
    result = train(Linear(), "default")
    assert result.state == "champion"
    assert "is at least as good as the champion's" in result.why
    assert result.archive.name == "linear-1.1.mar"
    assert result.contract.version == "1.1"
    assert store.champion_contract("linear") == ModelContract.from_json(result.contract.to_json())
    assert states(store, "linear") == {"1.0": "retired", "1.1": "champion"}
    assert store.verify(store.models()["linear"]["1.0"])  # to go back to


@pytest.mark.parametrize(
    ("promote", "rmse", "expected"),
    [
        ("always", 1.0, {"1.0": "retired", "1.1": "champion"}),
        ("never", 0.0, {"1.0": "champion", "1.1": "challenger"}),
    ],
)
def test_promotion_as_asked_looks_at_no_metric(
    store: Registry, champion: Open, promote: Promote, rmse: float, expected: dict[str, str]
) -> None:
    result = publish_again(champion(Linear()), store, promote, rmse=rmse)
    assert result.why == f"as asked: promote {promote}"
    assert states(store, "linear") == expected


def test_the_first_version_is_no_champion_if_never_is_asked(champion: Open, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "empty")
    assert publish_again(champion(Linear()), registry, "never").state == "challenger"
    assert registry.champions() == {}


def test_other_models_are_left_alone(store: Registry, champion: Open) -> None:
    before = store.models()["quadrants"]
    publish_again(champion(Linear()), store)
    assert store.models()["quadrants"] == before


def test_the_example_is_the_first_held_out_row_and_the_archives_own_answer(quadrants: Result, tmp_path: Path) -> None:
    contract = quadrants.contract
    test = Quadrants().load(Quadrants().preset(None), tmp_path).test
    assert contract.example.request == {name: values[0].item() for name, values in test.inputs.items()}
    shutil.unpack_archive(quadrants.archive, tmp_path, "zip")
    for engine in ENGINES.values():
        ModelHandler(contract, engine(tmp_path, contract, 1), Codec(contract, 16)).check_example()  # raises if not


def test_the_served_numbers_are_those_that_were_evaluated(quadrants: Result, tmp_path: Path) -> None:
    contract = quadrants.contract
    test = Quadrants().load(Quadrants().preset(None), tmp_path).test
    shutil.unpack_archive(quadrants.archive, tmp_path, "zip")
    output = ENGINES["onnxruntime"](tmp_path, contract, 1).run(test.inputs)["probabilities"]
    assert np.mean(output.argmax(1) == test.target) == pytest.approx(contract.evaluation.metrics["accuracy"])
    handler = ModelHandler(contract, ENGINES["torch"](tmp_path, contract, 1), Codec(contract, 16))
    (response,) = handler.handle([Request(b'{"east": 1, "north": -1}', {"content-type": "application/json"})])
    assert b'"label":"SE"' in response.body


@pytest.mark.usefixtures("linear")
def test_every_step_is_told(trained: Trainings) -> None:
    assert trained.told["linear"] == [
        "reading the data",
        "fitting 5 rows, preset default",
        "evaluating on 1,001 held-out rows",
        "exporting to ONNX and torch.export",
        "checking that the graphs agree with the module",
        "writing the report",
    ]


class OutOfRange(Linear):
    """A recipe whose own test data its contract refuses."""

    def load(self, hp: object, cache: Path) -> Data:
        """Six becomes ten million."""
        data = super().load(self.presets["default"], cache)
        x: Array = data.test.inputs["x"]
        x[0] = 1e7
        return data


def test_a_model_whose_own_example_is_refused_is_not_registered(champion: Open, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="linear: its own example is refused: .*out_of_range"):
        publish_again(champion(OutOfRange()), Registry(tmp_path / "empty"))
    assert not (tmp_path / "empty").exists()


def test_a_damaged_registry_is_not_overwritten(store: Registry, champion: Open) -> None:
    linear = champion(Linear())
    store.path.write_text("{")
    with pytest.raises(ArchiveError, match="registry.json is damaged"):
        publish_again(linear, store)
    assert store.path.read_text() == "{"
    assert not (store.store / "linear-1.1.mar").exists()


def test_the_contract_tells_the_range_of_labels(linear: Result, quadrants: Result) -> None:
    assert linear.contract.label_range == (-1e9, 1e9)  # as the recipe declares for its output
    assert quadrants.contract.label_range is None
