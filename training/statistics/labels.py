"""What a label of a model must be: checked when feedback arrives, and when it is learned from."""

from typing import Any

import numpy as np

from handlers.contract import ModelContract
from handlers.formats.suggestions import closest_names

LARGEST = 1e100  # of a label or an answer: sums of squares of millions of them are still numbers
SPANS = 10  # of the known labels, that one to come may lie outside of them on either side


def label_fault(contract: ModelContract, label: Any) -> str | None:
    """What would be right instead of a label; None if it is."""
    if contract.task == "classification":
        if label in contract.labels:
            return None
        closest = closest_names(str(label), contract.labels)
        return f"one of {len(contract.labels)} class names, closest: {', '.join(closest)}"
    limits = label_range(contract)
    if is_number(label) and (limits is None or limits[0] <= label <= limits[1]):
        return None
    return "a finite number" if limits is None else "a number from {:g} to {:g}".format(*limits)


def label_range(contract: ModelContract) -> tuple[float, float] | None:
    """Return the smallest and largest label that a regression accepts; None where nothing tells.

    An archive of a former version has none in its contract: its known answers and errors tell about where its labels
    were.
    """
    if contract.task != "regression" or contract.label_range:
        return contract.label_range
    output, errors = contract.reference.output, contract.reference.errors
    if not (output and output.quantiles and errors and errors.quantiles):
        return None
    answers, wrong = output.numbers, errors.numbers
    return widened(float(answers[0] - wrong[-1]), float(answers[-1] - wrong[0]))


def widened(low: float, high: float) -> tuple[float, float] | None:
    """Return a range with ten times its span on both sides: what no label is, rather than what each one was.

    The world may move on, so the bounds are far; they keep out what would drown every other row, such as 1e300.
    None where the span is no finite number or 0, which tells nothing of labels to come.
    """
    span = high - low
    if not 0 < span <= float(np.finfo(np.float32).max) / (2 * SPANS):
        return None
    return low - SPANS * span, high + SPANS * span


def is_number(value: Any) -> bool:
    """Whether it is a number that can be measured with; JSON's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
