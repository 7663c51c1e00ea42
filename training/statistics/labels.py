"""The validity of a model's labels: checked when feedback arrives, and when it is learned from."""

from typing import Any

import numpy as np

from handlers.contract import ModelContract
from handlers.formats.suggestions import closest_names
from training.statistics.targets import targets_of

LARGEST = 1e100  # size of a label or an answer: sums of squares of millions of them are still finite
SPANS = 10  # a label to come may lie this many spans of the known ones outside of them, on either side
UP, DOWN = "up", "down"
THUMBS = f'{UP}, {DOWN}, or an object such as {{"thumb": "{DOWN}", "answer": "a better answer"}}'


def label_fault(contract: ModelContract, label: Any) -> str | None:
    """Describe the labels that would be right instead; None if the label is."""
    if contract.task == "classification":
        if label in contract.labels:
            return None
        closest = closest_names(str(label), contract.labels)
        return f"one of {len(contract.labels)} class names, closest: {', '.join(closest)}"
    if contract.task == "generation":
        return None if thumb_of(label) else THUMBS
    if contract.task == "tensors":
        return "no label: nothing compares tensors with a truth"
    if contract.has_targets:
        names = [spec.name for spec in contract.outputs]
        if not isinstance(label, dict) or label.keys() != set(names):
            return f"an object with a number for each of {', '.join(names)}"
        faults = {own.name: label_fault(own.contract, own.value(label)) for own in targets_of(contract)}
        return next((f"{fault} for {name}" for name, fault in faults.items() if fault), None)
    limits = label_range(contract)
    if is_number(label) and (limits is None or limits[0] <= label <= limits[1]):
        return None
    return "a finite number" if limits is None else "a number from {:g} to {:g}".format(*limits)


def label_range(contract: ModelContract) -> tuple[float, float] | None:
    """Return the smallest and largest label that a regression accepts; None where they are unknown.

    The contract of a former version's archive lacks them: they are estimated from its reference answers and errors.
    """
    if contract.task != "regression" or contract.label_range:
        return contract.label_range
    output, errors = contract.reference.output, contract.reference.errors
    if not (output and output.quantiles and errors and errors.quantiles):
        return None
    answers, wrong = output.numbers, errors.numbers
    return widened(float(answers[0] - wrong[-1]), float(answers[-1] - wrong[0]))


def widened(low: float, high: float) -> tuple[float, float] | None:
    """Widen a range by ten times its span on both sides; None where the span is 0 or no finite number.

    The world may move on, so the bounds are far. They keep out labels that would drown every other row, such as 1e300.
    """
    span = high - low
    if not 0 < span <= float(np.finfo(np.float32).max) / (2 * SPANS):
        return None
    return low - SPANS * span, high + SPANS * span


def thumb_of(label: Any) -> str | None:
    """Return the thumb of a label of a conversation, ``up`` or ``down``; None if it is no such label."""
    match label:
        case "up" | "down" as thumb:
            return str(thumb)
        case {"thumb": "up" | "down" as thumb, "answer": str(answer), **others} if answer.strip() and not others:
            return str(thumb)
    return None


def is_number(value: Any) -> bool:
    """Tell whether a value is a number that metrics can take; JSON's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
