"""No test reaches the network; what tests only look at is trained once for all of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serving.registry import Registry
from serving.settings import Folders
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, Trainings
from training import pipeline, recipes
from training.__main__ import app
from training.packaging.registration import Result, TrainOptions
from training.recipe import Recipe
from training.recipes import fashion

NOWHERE = "http://127.0.0.1:1"  # nothing listens there


@pytest.fixture(autouse=True, scope="package")
def offline() -> Iterator[None]:
    """What would be fetched cannot be had."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "ftp_proxy"):
            patch.setenv(name, NOWHERE)
        patch.setenv("PIP_NO_INDEX", "1")
        yield


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Debian, no installed data, no network."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", Path("nonexistent"))
    monkeypatch.setattr(fashion, "ORIGIN", NOWHERE)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trained") / "store")


@pytest.fixture(scope="session")
def linear(trained: Trainings) -> Result:
    return trained(recipes.find("linear"))


@pytest.fixture(scope="session")
def flights(trained: Trainings) -> Result:
    return trained(recipes.find("flights"))


@pytest.fixture(scope="session")
def quadrants(trained: Trainings) -> Result:
    return trained(Quadrants())


Train = Callable[..., Result]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Trains a recipe into the store of this test."""
    registry = Registry(tmp_path / "store")

    def run(recipe: Recipe[Any], preset: str | None = None, **options: Any) -> Result:
        step = options.pop("step", lambda text: None)
        folders = Folders(CACHE, tmp_path / "runs")
        return pipeline.train(recipe, registry, folders, TrainOptions(preset=preset, **options), step)

    return run


class Commands:
    """Runs commands on a store, a cache and checkpoints of the test's own; an error that is not reported fails it."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder / "store")
        places = {"MODEL_STORE": folder / "store", "CACHE": folder / "cache", "RUNS": folder / "runs"}
        self._environ = {f"MARLOOP_{name}": str(place) for name, place in places.items()}

    def __call__(self, *arguments: str, **environ: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments, env=self._environ | environ, catch_exceptions=False)
        return result.exit_code, result.output

    def champions(self) -> dict[str, str]:
        return {name: number for name, (number, _) in self.registry.champions().items()}


@pytest.fixture
def training(tmp_path: Path) -> Commands:
    return Commands(tmp_path)
