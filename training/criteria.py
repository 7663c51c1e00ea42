"""What decides between two versions; apart from what measures it, so that a reader of figures need not load torch."""

import math
from collections.abc import Mapping
from typing import Any

from handlers.contract import Task

# The metric of each task, and whether more of it is better.
PRIMARY: dict[str, tuple[str, bool]] = {
    "regression": ("rmse", False),
    "classification": ("accuracy", True),
    "generation": ("perplexity", False),
}
ERRORS = ("rmse", "mae", "perplexity")  # metrics of which less is better


def is_better(task: Task, challenger: Mapping[str, Any], champion: Mapping[str, Any]) -> bool:
    """Whether one evaluation is at least as good as another in the metric that decides; never where one lacks it."""
    more, (a, b) = PRIMARY[task][1], (deciding(task, one) for one in (challenger, champion))
    return a is not None and b is not None and (a >= b if more else a <= b)


def deciding(task: Task, evaluation: Mapping[str, Any]) -> float | None:
    """The metric that decides, of an evaluation; None where its rows did not tell it."""
    value = evaluation.get("metrics", {}).get(PRIMARY[task][0])
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
