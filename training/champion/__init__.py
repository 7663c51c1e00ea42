"""The champion, to be measured or changed: its contract, data, weights and graphs, all from its archive."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch
from msgspec import inspect
from torch import nn

from handlers.contract import ModelContract
from serving import archive
from serving.archive import ASSETS, CONFIG, MANIFEST, PROGRAM
from serving.registry import ArchiveError, Registry, Version
from training.data import DataError
from training.packaging import packable
from training.packaging.packable import Packable
from training.recipe import Data, Recipe, Trained
from training.recipe.measured import Measured


@dataclass(frozen=True)
class Champion:
    """An opened champion.

    Attributes:
        model: its recipe, or what is known of it without one.
        data: the rows that it is measured on, and those that it learned from or is calibrated with.
        graphs: folder of its graphs; without a recipe there is no ``model.pt2``.
    """

    contract: ModelContract
    model: Measured
    data: Data
    graphs: Path


@dataclass(frozen=True)
class FittedChampion(Champion):
    """An opened champion whose recipe can fit again; ``trained`` is its module with its weights."""

    trained: Trained


class ChampionSource(Protocol):
    """The way to a model's champion and its data."""

    @property
    def name(self) -> str:
        """Name of the model."""

    def parts(self, registry: Registry) -> Packable:
        """Return what an archive has beside contract and graphs, with the settings that were chosen."""

    def open(self, registry: Registry, folder: Path, fitted: bool = False) -> Champion:
        """Unpack the champion.

        Args:
            folder: its graphs are put there.
            fitted: whether a ``FittedChampion`` is wanted; without a recipe there is none.

        Raises:
            ArchiveError: there is no champion, or its archive is not as registered.
            DataError: the data cannot be had, or are not the champion's.
            ValueError: its weights do not fit the recipe's module.
        """


@dataclass(frozen=True)
class RecipeChampion:
    """The way to a champion by its recipe, whose data lie in ``cache``."""

    recipe: Recipe[Any]
    cache: Path

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.recipe.name

    def parts(self, registry: Registry) -> Packable:
        """Return what the recipe says, with the settings that were chosen."""
        return packable.of_recipe(self.recipe, registry.store)

    def open(self, registry: Registry, folder: Path, fitted: bool = False) -> Champion:
        """Unpack the champion, and load its data; errors as of ``ChampionSource``."""
        if fitted:
            return open_champion(self.recipe, registry, self.cache, folder)
        contract = unpack(registry, self.name, folder)
        _, data = learned_from(self.recipe, contract, self.cache)
        return Champion(contract, self.recipe, data, folder)


def open_champion(recipe: Recipe[Any], registry: Registry, cache: Path, folder: Path) -> FittedChampion:
    """Unpack a champion and fill the recipe's module with its weights.

    Args:
        folder: its graphs are put there.

    Raises:
        ArchiveError: there is no champion, or its archive is not as registered.
        DataError: the data cannot be had, or is not what the champion was trained on.
        ValueError: its weights do not fit the recipe's module.
    """
    contract = unpack(registry, recipe.name, folder)
    hp, data = learned_from(recipe, contract, cache)
    lineage = contract.lineage
    trained = Trained(
        recipe,
        hp,
        data,
        _with_weights(recipe, contract, recipe.module(hp, data), folder / PROGRAM).eval(),
        lineage.fit_seconds or 0.0,
        lineage.epochs,
        1.0 if lineage.temperature is None else lineage.temperature,
        lineage.preset,
    )
    return FittedChampion(contract, recipe, data, folder, trained)


def check_rewritable(registry: Registry, version: Version) -> None:
    """Raise unless this version of Marloop knows all that a version's contract says, so that it can write it again.

    Raises:
        ArchiveError: a newer version made it.
    """
    path = registry.archive(version)
    document = json.loads(archive.read_file(path, archive.CONTRACT))
    if unknown := sorted(_unknown(document, inspect.type_info(ModelContract), "")):
        raise ArchiveError(
            f"{path}: its contract has {', '.join(unknown)}, which this version of Marloop does not know and would "
            "drop. Use the version that made it, or train the model again"
        )


def _unknown(value: Any, kind: inspect.Type, path: str) -> Iterator[str]:
    """Yield the paths of a document's keys that its type lacks."""
    match value, kind:
        case dict(), inspect.StructType():
            types = {field.encode_name: field.type for field in kind.fields}
            yield from (path + key for key in value.keys() - types.keys())
            for key in value.keys() & types.keys():
                yield from _unknown(value[key], types[key], f"{path}{key}.")
        case dict(), inspect.DictType():
            for key, inner in value.items():
                yield from _unknown(inner, kind.value_type, f"{path}{key}.")
        case list(), inspect.ListType() | inspect.VarTupleType():
            for i, inner in enumerate(value):
                yield from _unknown(inner, kind.item_type, f"{path}{i}.")
        case _, inspect.UnionType():
            for option in kind.types:
                yield from _unknown(value, option, path)


def unpack(registry: Registry, name: str, folder: Path, number: str | None = None) -> ModelContract:
    """Unpack a version's graphs, settings and assets into a folder, and return its contract.

    Args:
        number: the version's; None for the champion.

    Raises:
        ArchiveError: there is no such version, or its archive is not as registered or incomplete.
    """
    if number is None:
        version = registry.champion(name).version
    else:
        versions = registry.models().get(name, {})
        if number not in versions:
            raise ArchiveError(f"{name} {number} is not registered; there are {', '.join(versions) or 'none'}")
        version = versions[number]
    contract = registry.contract(version)  # checks that the archive is as registered
    path = registry.archive(version)
    archive.unpack(path, folder, *archive.model_files(path), MANIFEST, CONFIG, ASSETS)
    return contract


def learned_from(recipe: Recipe[Any], contract: ModelContract, cache: Path) -> tuple[Any, Data]:
    """Return a version's hyperparameters and its data.

    Raises:
        DataError: the data cannot be had, or is not what the version was trained on, or that included feedback.
    """
    if fed := contract.lineage.feedback:
        raise DataError(
            f"{recipe.name} {contract.version} learned from {fed.rows - fed.held_out:,} rows of feedback as well "
            f"({fed.since[:10]} to {fed.until[:10]}) and was measured on {fed.held_out:,} newer ones, all of "
            f"a file with SHA-256 {fed.sha256}. The recipe loads none of them, so report, optimize and export need "
            f"a champion that learned without: `marloop train {recipe.name} --promote always` makes one"
        )
    hp = hyperparameters(recipe, contract)
    data = recipe.load(hp, cache)
    if data.sha256 != contract.lineage.data_sha256:
        raise DataError(f"{recipe.name} {contract.version} was trained on other data: train it again")
    return hp, data


def hyperparameters(recipe: Recipe[Any], contract: ModelContract) -> Any:
    """Return a version's hyperparameters, of the recipe's own type."""
    return msgspec.convert(contract.lineage.hyperparameters, type(recipe.preset(None)))


def _with_weights(recipe: Recipe[Any], contract: ModelContract, module: nn.Module, program: Path) -> nn.Module:
    weights = torch.export.load(program).state_dict
    if recipe.task == "classification":  # exported inside a module that makes logits probabilities
        weights = {name.removeprefix("module."): values for name, values in weights.items()}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{recipe.name} {contract.version} was made by another network than its recipe's of today: train it again "
            f"({' '.join(str(error).split())})"
        ) from error
    return module
