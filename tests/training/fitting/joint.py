"""Fits that two processes do together: the test is the first, and this program the second."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.training.quadrants import Quadrants
from training.fitting.distributed import ALONE, Processes, joined
from training.fitting.fit import fit
from training.recipe import Data, Trained
from training.recipes.linear import Linear

PATIENCE = timedelta(seconds=60)


def fits() -> Mapping[str, tuple[Any, Any, Data]]:
    """A recipe, hyperparameters and data, by name; each is a way in which shares of a batch could go wrong."""
    quadrants, linear = Quadrants(), Linear()
    hp, line = quadrants.preset(None), replace(linear.preset(None), epochs=40)
    data, points = quadrants.load(hp, Path()), linear.load(line, Path())
    weight = np.random.default_rng(1).uniform(0, 3, len(data.train)).astype(np.float32)
    weighted = replace(data, train=replace(data.train, weight=weight))
    odd = replace(data, validation=None if data.validation is None else data.validation.head(7))
    return {
        "classes": (quadrants, hp, data),
        "weights, and a last batch of one row": (quadrants, replace(hp, batch_size=133, l1=1e-4), weighted),
        "an odd number of rows to watch, and an early end": (quadrants, replace(hp, epochs=60, patience=2), odd),
        "an odd batch, and a schedule": (linear, replace(line, schedule="one_cycle", optimizer="sgd"), points),
    }


def fit_all(folder: Path, processes: Processes = ALONE) -> dict[str, Trained]:
    """Fit all of them, one after the other."""
    return {
        name: fit(recipe, hp, data, folder, processes=processes, callbacks=())
        for name, (recipe, hp, data) in fits().items()
    }


def main(folder: Path) -> None:
    """Fit as the second process, and keep the weights."""
    with joined(os.environ, PATIENCE) as processes:
        fitted = fit_all(folder, processes)
    torch.save({name: trained.module.state_dict() for name, trained in fitted.items()}, folder / "second.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
