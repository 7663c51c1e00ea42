"""Every recipe is loaded once a process, when a test first asks for it, and trained once for all runs of the tests."""

import functools
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.registry import Registry
from serving.settings import ROOT, Folders
from tests.support.kept import keep, sources
from training import pipeline, recipes
from training.data import DataError
from training.packaging.registration import Result, TrainOptions
from training.recipe import Data, Recipe

CACHE = ROOT / ".cache"


class Told(msgspec.Struct):
    """What a kept training said: why its version has its state, and every step."""

    why: str
    steps: list[str]


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
    """Trains each model at most once, and puts it into a store of its own as the first version.

    Args:
        store: the model store.
    """

    def __init__(self, store: Path) -> None:
        self.registry = Registry(store)
        self._results: dict[str, Result] = {}
        self.told: dict[str, list[str]] = {}  # what was said of each model's training

    def __call__(self, recipe: Recipe[Any], preset: str | None = None) -> Result:
        name = recipe.name
        if name not in self._results:
            kept = _trained(recipe, preset or quickest(recipe))
            told = msgspec.json.decode((kept / "told.json").read_bytes(), type=Told)
            self._results[name] = self._adopt(name, Registry(kept / "store"), told.why)
            self.told[name] = told.steps
        return self._results[name]

    def _adopt(self, name: str, source: Registry, why: str) -> Result:
        """Copy a model's only version, with its page."""
        (version,) = source.models()[name].values()
        store, page = self.registry.store, Path("reports") / f"{name}-1.0.html"
        (store / page).parent.mkdir(parents=True, exist_ok=True)
        for file in (Path(version.archive), page):
            shutil.copy(source.store / file, store / file)
        with self.registry.change() as models:
            models[name] = {"1.0": version}
        contract = self.registry.champion_contract(name)
        return Result(contract, store / version.archive, version.state, why, store / page)


def _trained(recipe: Recipe[Any], preset: str) -> Path:
    """A folder with a store of one model, and what its training said."""

    def make(folder: Path) -> None:
        load(recipe)  # skips where there is no data
        steps: list[str] = []
        registry = Registry(folder / "store")
        folders, options = Folders(CACHE, folder / "runs"), TrainOptions(preset=preset)
        result = pipeline.train(recipe, registry, folders, options, steps.append)
        (folder / "told.json").write_bytes(msgspec.json.encode(Told(result.why, steps)))
        shutil.rmtree(folder / "runs", ignore_errors=True)

    return keep("trained", sources(), f"{recipe.name}-{preset}", make)
