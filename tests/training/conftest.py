"""Every recipe is loaded and trained once a session, when a test first asks for it; no test reaches the network."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.registry import Registry
from serving.settings import ROOT
from tests.support.training.quadrants import Quadrants
from training import pipeline, recipes
from training.data import DataError
from training.packaging.registration import Result
from training.recipe import Data, Recipe
from training.recipes import fashion

CACHE = ROOT / ".cache"
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


def quickest(recipe: Recipe[Any]) -> str:
    """The preset for tests: the default, unless there is one made for them."""
    return "smoke" if "smoke" in recipe.presets else next(iter(recipe.presets))


@functools.cache
def load(recipe: Recipe[Any]) -> Data:
    """A recipe's data, read once; skips the test where it, or a package that it needs, cannot be had."""
    if missing := recipes.missing(recipe.name):
        pytest.skip(missing)
    try:
        return recipe.load(recipe.preset(quickest(recipe)), CACHE)
    except DataError as error:
        pytest.skip(str(error))


class Trainings:
    """Trains each model at most once, into a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder / "store")
        self._runs = folder / "runs"
        self._results: dict[str, Result] = {}
        self.told: dict[str, list[str]] = {}  # what was said of each model's training

    def __call__(self, recipe: Recipe[Any]) -> Result:
        if recipe.name not in self._results:
            load(recipe)  # skips where there is no data
            told = self.told[recipe.name] = []
            self._results[recipe.name] = pipeline.train(
                recipe, quickest(recipe), self.registry, cache=CACHE, checkpoints=self._runs, step=told.append
            )
        return self._results[recipe.name]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trained"))


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
    return functools.partial(pipeline.train, registry=registry, cache=CACHE, checkpoints=tmp_path / "runs")
