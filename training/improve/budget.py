"""Equal terms for trainings that are compared: the same rows, and the metric that decides."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytorch_lightning as lightning
import torch
from msgspec import UNSET, UnsetType
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from training.fitting.rows import Batch
from training.packaging import export
from training.recipe import Data, Recipe, Split, Trained
from training.statistics.decisive import Scoring


@dataclass(frozen=True)
class Budget:
    """The limits of trainings that are compared.

    Attributes:
        rows: training rows; None for all.
        epochs: None for the preset's.
        seeds: trainings of each variant.
        trials: trials of a search, those of earlier runs included.
        timeout: s after which no further training begins.
        clock: monotonic, s.
    """

    rows: int | None = None
    epochs: int | None = None
    seeds: int = 3
    trials: int = 30
    timeout: float = math.inf
    clock: Callable[[], float] = time.monotonic


class Spent(msgspec.Struct, frozen=True):
    """Rows to learn from, watched and held out, epochs of a training, and seeds, in a comparison of trainings."""

    rows: int
    validation: int
    test: int
    seeds: int
    epochs: int | UnsetType = UNSET


def spent(data: Data, seeds: int, epochs: int | UnsetType = UNSET) -> Spent:
    """Return the rows, seeds and epochs of trainings on ``data``."""
    return Spent(len(data.train), len(data.validation or []), len(data.test), seeds, epochs)


def within(data: Data, rows: int | None, watched: int | None = None) -> Data:
    """Thin the data.

    Args:
        rows: most training rows; None for all.
        watched: most validation rows; None for all. Without validation rows, the last fifth of the training rows takes
            their place.
    """
    train, validation = data.train, data.validation
    if validation is None:
        size = len(train) - max(1, len(train) // 5)
        train, validation = train.head(size), train.tail(len(train) - size)
    return replace(data, train=train.head(rows or len(train)), validation=validation.head(watched or len(validation)))


def load_thinned(recipe: Recipe[Any], hp: Any, cache: Path, rows: int | None, watched: int | None = None) -> Data:
    """Load a recipe's data, thinned as by ``within``.

    Raises:
        DataError: the data cannot be had.
        ValueError: its validation or held-out rows do not tell the metric that decides.
    """
    data = within(recipe.load(hp, cache), rows, watched)
    assert data.validation
    for split, name in ((data.validation, "validation"), (data.test, "held-out")):
        recipe.scoring.require(split.target, name)
    return data


def measure(trained: Trained, split: Split) -> float:
    """Measure a trained model on some rows by the metric that decides."""
    output = export.predict(export.serving_module(trained), split)
    return trained.recipe.scoring.value(output, split.target)


class Watch(Callback):
    """A callback that logs the metric that decides on all validation rows, after each epoch.

    Attributes:
        metric: its name in the log.
    """

    def __init__(self, scoring: Scoring) -> None:
        self.metric = f"val_{scoring.criterion.name}"
        self._scoring = scoring
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the output of a batch and its truth."""
        self._outputs.append(outputs.detach())
        self._targets.append(batch.target)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Measure and log the metric on the outputs of the epoch."""
        output = torch.cat(self._outputs)
        if self._scoring.task == "classification":
            output = output.softmax(1)
        pl_module.log(self.metric, self._scoring.value(output.numpy(), torch.cat(self._targets).numpy()))
        self._outputs, self._targets = [], []


def watch(recipe: Recipe[Any]) -> tuple[str, list[Callback]]:
    """Return the name of the watched value in the history, and the callbacks that log it.

    The value is the metric that decides on the validation rows; where that is RMSE, their loss.
    """
    if recipe.scoring.key:
        callback = Watch(recipe.scoring)
        return callback.metric, [callback]
    return ("val_accuracy" if recipe.task == "classification" else "val_loss"), []
