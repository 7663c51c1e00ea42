"""What decides between two versions; apart from what measures it, so that a reader of figures need not load torch."""

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
    """Whether one evaluation is at least as good as another in the metric that decides."""
    name, more = PRIMARY[task]
    a, b = challenger["metrics"][name], champion["metrics"][name]
    return bool(a >= b if more else a <= b)
