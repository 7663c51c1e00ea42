"""A recipe's timeline, answered by the champion, as the store would hold it if the year had been served."""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from handlers.contract import Array, ModelContract
from handlers.engine import load_engine
from monitoring.live.drift import window_needed
from monitoring.store.records import Labelled, Prediction
from serving.registry import Registry
from training.champion import hyperparameters, unpack
from training.packaging import export
from training.packaging.reference import errors_of, summaries, values_of
from training.packaging.serving_settings import serving_of
from training.recipe import Data, Recipe, Split

BATCH = 4096  # rows that the graph answers at once


@dataclass(frozen=True)
class Timeline:
    """A year's rows with a version's answers.

    Attributes:
        rows: in order of time.
        reference_rows: number of the first rows, which the version learned from or was tested on.
        output: FP32, the answers.
    """

    contract: ModelContract
    rows: Split
    reference_rows: int
    output: Array

    @property
    def window(self) -> int:
        """Return the number of rows in a window of drift: those of the reference's longest stretch."""
        rows, span = window_needed(self.contract)
        seconds = self._times[self.reference_rows - 1] - self._times[0]
        return max(rows, int(round(self.reference_rows * span.total_seconds() / float(seconds))))

    def labelled(self, start: int, stop: int) -> list[Labelled]:
        """Return some rows as the store would return them."""
        return [self._labelled(row) for row in range(start, stop)]

    def place(self, moment: datetime) -> int:
        """Return the place of the first row at or after a moment."""
        return int(np.searchsorted(self._times, moment.timestamp()))

    def month(self, row: int) -> tuple[int, int]:
        """Return year and month of a row, in UTC."""
        moment = datetime.fromtimestamp(int(self._times[row]), UTC)
        return moment.year, moment.month

    @property
    def _times(self) -> Array:
        assert self.rows.time is not None
        return self.rows.time

    def _labelled(self, row: int) -> Labelled:
        contract = self.contract
        moment = datetime.fromtimestamp(row if self.rows.time is None else int(self._times[row]), UTC)
        features = self.rows.row(contract.inputs, row)
        label, output = self.rows.target[row].item(), self.output[row].tolist()
        if contract.task == "classification":
            label = contract.labels[label]
            output = {"label": contract.labels[int(np.argmax(output))], "probabilities": output}
        prediction = Prediction("timeline", row, contract.name, contract.version, moment, features, output)
        return Labelled(prediction, label, moment)

    def without(self, start: int, stop: int) -> ModelContract:
        """Return the contract with a reference that lacks the rows from ``start`` until ``stop``."""
        others = np.r_[0:start, stop : self.reference_rows]
        inputs = {name: values[others] for name, values in values_of(self.rows).items()}
        errors = errors_of(self.contract, self.output[others], self.rows.target[others])
        reference = summaries(self.contract, inputs, self.output[others], errors, self._times[others])
        return msgspec.structs.replace(self.contract, reference=reference)


def timeline(recipe: Recipe[Any], registry: Registry, cache: Path) -> Timeline:
    """Return the recipe's timeline, answered by the champion.

    Raises:
        ArchiveError: there is no champion, or its archive is not as registered.
        DataError: the data cannot be had.
        ValueError: the recipe has no timeline, or its reference too few rows to learn what is usual.
    """
    contract = registry.champion_contract(recipe.name)
    data = _data(recipe, contract, cache)
    rows = recipe.timeline(data)
    if rows is None or rows.time is None or data.train.time is None or data.test.time is None:
        raise ValueError(f"the recipe {recipe.name} has no timeline: nothing tells which of its rows came when")
    if not (contract.reference.errors and contract.reference.errors.usual):
        raise ValueError(f"{recipe.name} {contract.version} does not know what is usual: train it again, on more rows")
    end = np.searchsorted(rows.time, max(data.train.time.max(), data.test.time.max()), "right")
    return Timeline(contract, rows, int(end), _answers(recipe, registry, contract, rows))


def _data(recipe: Recipe[Any], contract: ModelContract, cache: Path) -> Data:
    return recipe.load(hyperparameters(recipe, contract), cache)


def _answers(recipe: Recipe[Any], registry: Registry, contract: ModelContract, rows: Split) -> Array:
    with tempfile.TemporaryDirectory() as folder:
        unpack(registry, recipe.name, Path(folder), contract.version)
        engine = load_engine(serving_of(recipe, registry.store).engine, Path(folder), contract, 1)
        return export.run(recipe, engine, rows, contract.graph_outputs, BATCH)
