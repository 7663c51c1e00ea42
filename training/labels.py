"""What a label of a model must be: checked when feedback arrives, and when it is learned from."""

import difflib
import sys
from typing import Any

from handlers.contract import ModelContract


def label_fault(contract: ModelContract, label: Any) -> str | None:
    """What would be right instead of a label; None if it is."""
    if contract.task == "classification":
        if label in contract.labels:
            return None
        closest = difflib.get_close_matches(str(label)[:64], contract.labels, n=3, cutoff=0.0)
        return f"one of {len(contract.labels)} class names, closest: {', '.join(closest)}"
    return None if is_number(label) else "a finite number"


def is_number(value: Any) -> bool:
    """Whether it is a number that a float holds; JSON's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
