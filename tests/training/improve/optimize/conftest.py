import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from handlers.contract import Array
from handlers.engine import OnnxRuntimeEngine
from serving.registry import Registry
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, Trainings
from training.champion import FittedChampion, open_champion
from training.packaging.registration import Result


@pytest.fixture
def store(trained: Trainings, linear: Result, quadrants: Result, tmp_path: Path) -> Registry:
    """A store in which linear and quadrants are champions, for this test to change."""
    shutil.copytree(trained.registry.store, tmp_path / "store")
    return Registry(tmp_path / "store")


@pytest.fixture
def champion(store: Registry, tmp_path: Path) -> FittedChampion:
    """Quadrants, opened."""
    folder = tmp_path / "champion"
    folder.mkdir()
    return open_champion(Quadrants(), store, CACHE, folder)


def answers(champion: FittedChampion, graphs: Path, inputs: Mapping[str, Array] | None = None) -> Array:
    """What ONNX Runtime makes of the held-out rows, or of others."""
    engine = OnnxRuntimeEngine(graphs, champion.contract, 1)
    return engine.run(inputs or champion.trained.data.test.inputs)["probabilities"]
