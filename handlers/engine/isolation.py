"""Which models have a process of their own, and how it fails them.

What starts such a process is in ``isolated``, which the archives of other models do not hold.
"""

from collections.abc import Mapping
from typing import Any

# Function of the module ``isolated``, and names of the file in an archive, by engine.
ISOLATED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "torchscript": ("script", ("model.pt",)),
    "python": ("estimator", ("model.skops", "model.joblib")),
}


def is_isolated(settings: Mapping[str, Any]) -> bool:
    """Return whether a model has a process of its own, by ``handler`` of its ``model-config.yaml``.

    Raises:
        ValueError: ``handler.isolated`` is no truth value.
    """
    isolated = False if (value := settings.get("isolated")) is None else value
    if not isinstance(isolated, bool):
        raise ValueError(f"handler.isolated is {isolated!r} in model-config.yaml; it must be true or false")
    return isolated or settings.get("engine") in ISOLATED


class ChildError(RuntimeError):
    """A child gave no answer: it ended, took too long, is being started again, or does not start."""


class ChildFault(ChildError):
    """The code in a child raised; its traceback is a note of this error.

    Args:
        kind: name of the exception's class.
        message: the exception's.
    """

    def __init__(self, kind: str, message: str, trace: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind, self.message = kind, message
        self.add_note(f"In the child:\n{trace}")
