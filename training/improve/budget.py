"""Equal terms for trainings that are compared: the same rows, and the metric that decides."""

from dataclasses import replace

import numpy as np

from training.packaging import export
from training.recipe import Data, Split, Trained


def within(data: Data, rows: int | None, watched: int | None = None) -> Data:
    """Thin the data.

    Args:
        data: as the recipe loaded it.
        rows: to learn from, at most; None for all.
        watched: validation rows, at most; None for all. Where there are none, the last fifth of the training rows is
            taken for them.
    """
    train, validation = data.train, data.validation
    if validation is None:
        kept = len(train) - max(1, len(train) // 5)
        train, validation = train.head(kept), train.tail(len(train) - kept)
    return replace(data, train=train.head(rows or len(train)), validation=validation.head(watched or len(validation)))


def measure(trained: Trained, split: Split) -> float:
    """The metric that decides, accuracy or RMSE, of a trained model on some rows."""
    output = export.predict(export.serving_module(trained), split)
    if trained.recipe.task == "classification":
        return float((output.argmax(1) == split.target).mean())
    return float(np.sqrt(np.mean((output - split.target) ** 2)))
