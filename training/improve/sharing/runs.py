"""The runs of an ablation: a training of each variant with each seed, by one worker or by several."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from handlers.contract.model_card import Number
from training.fitting import fit
from training.improve.budget import Budget, measure, watch
from training.improve.sharing.results import PAUSE, Results, key_of, train_all
from training.recipe import Data, Recipe


class Run(msgspec.Struct, frozen=True):
    """A training of one variant with one seed, which is read again when an ablation goes on.

    Attributes:
        seconds: duration of fitting.
        train: the metric that decides, on the fitted rows; null where a training went astray. Likewise ``validation``
            on the watched rows, and ``test`` on the held-out ones.
        curve: the metric on the watched rows after each epoch, or their loss where RMSE decides.
    """

    seed: int
    epochs: int
    seconds: float
    train: Number
    validation: Number
    test: Number
    curve: list[Number]


class OutOfTimeError(Exception):
    """The time is over; the finished runs are kept."""


@dataclass(frozen=True)
class Runs:
    """The runs of an ablation: each is read, else trained while there is time, unless another worker is at it."""

    recipe: Recipe[Any]
    data: Data
    budget: Budget
    results: Results
    until: float  # on the budget's clock
    step: Callable[[str], None]

    def of(self, variants: Mapping[str, Any]) -> dict[str, list[Run]]:
        """Return a run for each seed of each variant.

        Args:
            variants: hyperparameters by label.

        Raises:
            OutOfTimeError: no time is left for one that nobody has finished.
        """
        keys: dict[str, list[str]] = {label: [] for label in variants}
        trainings: dict[str, Callable[[], Run]] = {}
        for label, hp in variants.items():
            for seed in range(self.budget.seeds):
                seeded = replace(hp, seed=seed)
                key = key_of(self.recipe, seeded, self.data)
                keys[label].append(key)
                trainings.setdefault(key, partial(self._train, f"{label}, seed {seed}", seeded))
        runs = train_all(self.results, trainings, Run, self._pause)
        return {label: [runs[key] for key in keys[label]] for label in variants}

    def _pause(self) -> None:
        self._check_time()
        time.sleep(PAUSE)

    def _check_time(self) -> None:
        if self.budget.clock() >= self.until:
            raise OutOfTimeError

    def _train(self, label: str, hp: Any) -> Run:
        self._check_time()
        watched, callbacks = watch(self.recipe)
        with tempfile.TemporaryDirectory() as checkpoints:
            trained = fit.fit(self.recipe, hp, self.data, Path(checkpoints), callbacks=callbacks)
        assert self.data.validation
        parts = (self.data.train, self.data.validation, self.data.test)
        train, validation, test = (measure(trained, part) for part in parts)
        curve: list[Number] = [entry[watched] for entry in trained.history]
        self.step(f"{label}: {test:.4f} held out, {train:.4f} fitted, {trained.seconds:.0f} s")
        return Run(hp.seed, len(curve), trained.seconds, train, validation, test, curve)
