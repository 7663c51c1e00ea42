"""How far an exported file's answers are from the program's."""

import numpy as np

from handlers.contract import Array, Task
from training.packaging.export import PARITY_TOLERANCE


def compare(task: Task, expected: Array, found: Array) -> dict[str, float]:
    """Measure the difference of two outputs.

    Args:
        expected: the program's, values ``(n,)`` or probabilities ``(n, classes)``.

    Returns:
        ``max_abs_difference``, and of a classification ``label_agreement``, the share of rows whose likeliest class is
        the same; of a regression ``max_relative_difference``, relative to the value, or to the mean size of all values
        where this is larger.
    """
    difference = np.abs(found.astype(np.float64) - expected)
    worst = {"max_abs_difference": float(difference.max())}
    if task == "classification":
        return worst | {"label_agreement": float((found.argmax(1) == expected.argmax(1)).mean())}
    size = np.maximum(np.abs(expected), np.abs(expected).mean())
    return worst | {"max_relative_difference": float((difference / size).max())}


def agrees(comparison: dict[str, float]) -> bool:
    """Whether a difference is one of rounding: of probabilities, or relative to a regression's values."""
    worst = comparison.get("max_relative_difference", comparison["max_abs_difference"])
    return bool(worst <= PARITY_TOLERANCE)
