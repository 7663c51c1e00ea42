"""The champion of a model that was imported: measured on rows that are given, since it has no recipe with data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from handlers.contract import Array, ModelContract, Task
from handlers.contract.model_card import Evaluation
from handlers.formats.tokens import FILE as TOKENIZER
from handlers.formats.tokens import TextTokenizer
from handlers.message import JSON, Request
from serving.archive import ASSETS, HOOKS, ONNX
from serving.registry import Registry, file_sha256
from training import recipes
from training.bring.graph import BringError
from training.bring.table import Table, read_table, tensors_of, truth_of
from training.champion import Champion, ChampionSource, RecipeChampion, unpack
from training.data import DataError
from training.packaging import packable
from training.packaging.contents import CHAT, CODECS, FOREIGN, codec_of
from training.packaging.packable import Packable
from training.packaging.reference import errors_of, summaries, values_of
from training.recipe import Data, Recipe, Split
from training.statistics.decisive import Scoring

Purpose = Literal["report", "export", "optimize"]  # commands that take a champion with its data
OTHERS = {CHAT: "is a language model", FOREIGN: "is served by a handler of its own"}  # models without graphs
CALIBRATED = 5  # of so many rows one calibrates, drawn by chance, and is not measured on


@dataclass(frozen=True)
class GivenRows:
    """Rows that are given with a command: a table, and its column of the truth."""

    data: Path | None = None
    target: str = ""


@dataclass(frozen=True)
class ImportedModel:
    """An imported model as measures take it (``training.recipe.measured.Measured``).

    Attributes:
        pad: index of the token that fills shorter rows up; None where it takes no text.
    """

    contract: ModelContract
    pad: int | None = None
    parity_rows: int = Recipe.parity_rows

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.contract.name

    @property
    def task(self) -> Task:
        """Task of the model."""
        return self.contract.task

    @property
    def scoring(self) -> Scoring:
        """Metrics of the answers: its task's."""
        targets = tuple(spec.name for spec in self.contract.outputs) if self.contract.has_targets else ()
        return Scoring(self.contract.task, self.contract.labels, targets=targets)

    def batch(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Cut tokens after the longest text; other rows stay as they are."""
        if self.pad is None:
            return inputs
        ((name, tokens),) = inputs.items()
        length = int((tokens != self.pad).sum(1).max())
        return {name: np.ascontiguousarray(tokens[:, :length])}

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Predict the commonest class, or the mean."""
        truth, classes = data.test.target, len(self.contract.labels)
        if self.task != "classification":
            return {"mean": np.full(truth.shape, truth.mean(0), np.float32)}
        most = np.bincount(truth, minlength=classes).argmax()
        return {"majority": np.tile(np.eye(classes, dtype=np.float32)[most], (len(truth), 1))}

    def metrics(self, output: Array, target: Array) -> dict[str, float]:
        """Measure nothing beside the metrics of the task."""
        return {}


@dataclass(frozen=True)
class ImportedChampion:
    """The way to an imported model's champion, for one of the commands that measure it."""

    name: str
    purpose: Purpose
    given: GivenRows

    def parts(self, registry: Registry) -> Packable:
        """Return what the champion's archive has."""
        return packable.of_champion(self.name, registry)

    def open(self, registry: Registry, folder: Path, fitted: bool = False) -> Champion:
        """Unpack the champion, and read the given rows; errors as of ``ChampionSource``."""
        contract = unpack(registry, self.name, folder)
        self._check(contract, folder)
        settings = folder / ASSETS / TOKENIZER
        tokenizer = TextTokenizer(settings.read_bytes()) if settings.exists() else None
        try:
            rows = self._rows(contract, tokenizer) or _example(contract, self.parts(registry), folder)
        except BringError as error:
            raise DataError(str(error)) from error
        apart = np.random.default_rng(0).permutation(len(rows)) < self._calibrating(len(rows))
        sha256 = file_sha256(self.given.data) if self.given.data else contract.lineage.data_sha256
        assets = {path.name: path.read_bytes() for path in (folder / ASSETS).glob("*")}
        data = Data(rows.part(apart), rows.part(~apart), contract.inputs, sha256, assets=assets)
        model = ImportedModel(contract, tokenizer.pad if tokenizer else None)
        return Champion(contract, model, data, folder)

    def _calibrating(self, rows: int) -> int:
        return rows // CALIBRATED if self.purpose == "optimize" else 0

    def _check(self, contract: ModelContract, folder: Path) -> None:
        """Raise if the command cannot take such a model, or lacks rows."""
        name = self.name
        if self.purpose != "report" and not (folder / ONNX).exists():
            raise DataError(f"{name} has no ONNX graph, which {self.purpose} of an imported model starts from")
        if self.purpose != "report" and (folder / HOOKS).exists():
            raise DataError(f"{name} answers by {HOOKS}, which is Python: {self.purpose} takes a graph alone")
        if self.purpose == "export":
            return
        if contract.task == "tensors":
            raise DataError(f"{name} answers tensors, which no metric compares with a truth: {self.purpose} needs one")
        if self.purpose == "optimize" and contract.most_rows(2) == 1:
            raise DataError(f"{name} takes rows one at a time, and optimize measures batches")
        if not (self.given.data and self.given.target):
            raise DataError(
                f"{name} was imported, so that no recipe has rows to measure it on: give some with their truth, "
                "--data rows.csv --target column"
            )

    def _rows(self, contract: ModelContract, tokenizer: TextTokenizer | None) -> Split | None:
        """Return the given rows as a graph takes them; None without any."""
        if self.given.data is None:
            return None
        table = read_table(self.given.data, self.given.target)
        tensors = _tensors(contract, table)
        truth = np.zeros(len(table), np.float32) if table.truth is None else truth_of(table, contract.labels)
        texts = {spec.name: tensors[spec.name] for spec in contract.inputs if spec.is_text}
        split = Split(tensors, truth, texts=texts).filled(contract.inputs)
        if not tokenizer:
            return split
        return replace(split, inputs={name: tokenizer(values.tolist()).indices for name, values in split.texts.items()})


def champion_source(purpose: Purpose, name: str, registry: Registry, cache: Path, given: GivenRows) -> ChampionSource:
    """Return the way to a model's champion: by its recipe, or where it was imported by the given rows.

    Raises:
        ArchiveError: the champion's archive is not as registered.
        KeyError: there is neither a recipe nor an imported champion of that name.
        DataError: packages of the recipe's extra are not installed, or the imported model has no graph.
        ValueError: rows are given for a model with a recipe.
    """
    if name in registry.champions() and registry.champion_contract(name).lineage.imported:
        kind = packable.of_champion(name, registry).entry_point
        if kind not in CODECS:
            raise DataError(f"{name} {OTHERS.get(kind, 'has no graph')}: {purpose} takes models of graphs")
        return ImportedChampion(name, purpose, given)
    recipe = recipes.ready(name)
    if given != GivenRows():
        raise ValueError(f"{name} has a recipe with data of its own; --data and --target are for imported models")
    return RecipeChampion(recipe, cache)


def measured_again(champion: Champion, evaluation: Evaluation, learned: Array, held_out: Array) -> ModelContract:
    """Return the contract for another graph of an imported champion, measured on the given rows.

    Args:
        learned: the graph's output for the rows that calibrate it; ``held_out``, for the others.
    """
    contract, data = champion.contract, champion.data
    rows, output = data.train.followed_by(data.test), np.concatenate([learned, held_out])
    order = np.random.default_rng(0).permutation(len(rows))
    inputs = {name: values[order] for name, values in values_of(rows).items()}
    errors = errors_of(contract, output, rows.target)
    lineage = msgspec.structs.replace(contract.lineage, data_sha256=data.sha256)
    return msgspec.structs.replace(
        contract,
        evaluation=evaluation,
        reference=summaries(contract, inputs, output[order], errors[order]),
        lineage=lineage,
    )


def _tensors(contract: ModelContract, table: Table) -> dict[str, Array]:
    """Return the rows of a table as the contract's inputs; columns are those of a matrix where that is the only one."""
    (first, *others) = contract.inputs
    if others or first.shape[1:] != (len(table.columns),):
        return tensors_of(contract.inputs, table)
    try:
        return {first.name: np.ascontiguousarray(table.frame.to_numpy(first.dtype))}
    except (TypeError, ValueError):
        raise BringError(f"{table.path}: not every value is {first.describe()}") from None


def _example(contract: ModelContract, parts: Packable, folder: Path) -> Split:
    """Return the contract's example as the only row; its truth is not known."""
    codec = codec_of(parts.entry_point).open(folder, contract, 1)
    body = msgspec.json.encode(contract.example.request)
    tensors = codec.stack([codec.decode(Request(body, {"content-type": JSON}, id="example"))])
    return Split({spec.name: tensors[spec.name] for spec in contract.inputs}, np.zeros(1, np.float32))
