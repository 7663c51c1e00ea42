"""The records of the store: predictions, feedback on them, jobs and decisions. Every time is aware, in UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from monitoring.retraining.result import JobResult

Label = float | str | dict[str, float] | dict[str, str]
Trigger = Literal["alert", "schedule", "approval", "hand"]
State = Literal["queued", "running", "succeeded", "failed", "refused", "promoted", "rolled_back", "cancelled"]
UNDER_WAY: tuple[State, ...] = ("queued", "running")


@dataclass(frozen=True)
class Prediction:
    """One row of one answered request.

    Attributes:
        request_id: the client's ``X-Request-Id``, else the id that the response carried.
        row: position in the request, from 0.
        time: when the worker received the request.
        features: values by input name: a number, a category, a text (its first 2,000 characters), a small tensor as
            nested lists; a tensor of over 64 values a row, such as a picture, is its mean.
        output: a number for a regression, of several targets by name; ``{"label": str, "probabilities": [float, …]}``
            for a classification, in the order of the contract's labels.
    """

    request_id: str
    row: int
    model: str
    version: str
    time: datetime
    features: Mapping[str, Any]
    output: Any


@dataclass(frozen=True)
class Feedback:
    """The truth about one row.

    Attributes:
        label: a number of a regression, or one by target; a class name of a classification; of a conversation ``up``,
            ``down``, or ``{"thumb": "down", "answer": "…"}`` with a better answer.
        time: when it was received.
        model: the one that answered; empty where the label came first and names none.
    """

    request_id: str
    row: int
    label: Label
    time: datetime
    model: str = ""


def without_answer(label: Label) -> Label:
    """Return a label as logs and other callers may see it: a thumb without the better answer."""
    if isinstance(label, dict) and isinstance(label.get("answer"), str):
        return f"{label['thumb']}, with a better answer"
    return label


@dataclass(frozen=True)
class Labelled:
    """A prediction whose truth is known.

    Attributes:
        labelled: when the label was received.
    """

    prediction: Prediction
    label: Label
    labelled: datetime


@dataclass(frozen=True)
class FeedbackResult:
    """Numbers of labels in some feedback.

    Attributes:
        accepted: new labels.
        duplicates: labels that were stored already.
        waiting: rows whose prediction is not here yet.
        corrected: labels that took the place of others.
    """

    accepted: int
    duplicates: int
    waiting: int
    corrected: int = 0


@dataclass(frozen=True)
class Conflict:
    """A label that contradicts a stored one of the same row."""

    request_id: str
    row: int
    stored: Label
    label: Label
    model: str = ""


class LabelConflict(Exception):  # noqa: N818
    """Feedback contradicts stored labels; none of it was kept."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        first = conflicts[0]
        super().__init__(
            f"{len(conflicts)} labels contradict earlier ones; the first: {first.request_id!r} row {first.row} "
            f"is {without_answer(first.stored)!r}, not {without_answer(first.label)!r}"
        )
        self.conflicts = list(conflicts)


@dataclass(frozen=True)
class Counts:
    """Numbers of rows of one version of a model.

    Attributes:
        predictions: rows that were captured.
        labelled: captured rows with a label.
        newest: time of the newest prediction.
    """

    predictions: int
    labelled: int
    newest: datetime


@dataclass(frozen=True)
class Job:
    """One retraining, or one challenge of a version that is registered already.

    Attributes:
        progress: in words.
        log: path of its training's log; empty before it has one.
    """

    id: int
    model: str
    trigger: Trigger
    reason: str
    state: State
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    pid: int | None = None
    progress: str = ""
    log: str = ""
    result: JobResult = field(default_factory=JobResult)


@dataclass(frozen=True)
class Decision:
    """One entry of the audit.

    Attributes:
        kind: such as promoted, refused, rolled_back, alarm.
    """

    id: int
    model: str
    kind: str
    details: Mapping[str, Any]
    time: datetime
