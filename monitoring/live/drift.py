"""Drift: whether inputs, predictions or errors are distributed otherwise than in the data that a version knows.

Everything comes from the contract's reference, which also tells how far a stretch of time usually is from the rest: an
alarm means further than any weather of the known weeks explains, not that rows are not independent. A window that
covers less time than the reference can judge gets no verdict.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import numpy as np
from scipy import stats

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.contract.model_card import Summary
from handlers.observe.events import LONGEST_TEXT
from monitoring.store.records import Labelled, Prediction
from training.statistics.distribution import distance, name_of, psi
from training.statistics.usual import HOUR, Learned, hours_of, limit, p_value, read, whole_days

Kind = Literal["features", "predictions", "errors"]
T = TypeVar("T")
KINDS: tuple[Kind, ...] = ("features", "predictions", "errors")
LEVEL = 0.01  # probability that a window alarms where nothing drifts
UNJUDGED = 1000  # rows that are compared where the reference was too small for a verdict
PREDICTION, ERROR = "prediction", "error"  # names of the findings that are of no input


@dataclass(frozen=True)
class Finding:
    """One distribution against its reference.

    Attributes:
        kind: of what.
        name: of the input, or ``prediction`` or ``error``.
        test: ``ks``, the distance of Kolmogorov and Smirnov, or ``js``, that of Jensen and Shannon.
        rows: that were compared.
        needed: rows that a verdict needs; None where the reference was too small to learn what is usual.
        hours: that the rows cover, each hour counted by its share of them.
        needed_hours: that they must cover for a verdict; 0 where the reference has no times.
        statistic: the distance, 0 to 1; None without rows.
        limit: the distance from which on this test alone would alarm, of as many rows as are needed.
        p: the probability of a distance at least as large where nothing drifts; None without a verdict.
        corrected: the same after the correction for the number of features (Benjamini and Hochberg 1995).
        psi: the population stability index.
        psi_usual: which one window in a hundred of as many rows exceeds where nothing drifts.
        alarm: whether it drifted; errors that became smaller do not alarm.
        smaller: whether errors are distributed otherwise since they became smaller.
    """

    kind: Kind
    name: str
    test: str
    rows: int
    needed: int | None
    hours: float = 0.0
    needed_hours: float = 0.0
    statistic: float | None = None
    limit: float | None = None
    p: float | None = None
    corrected: float | None = None
    psi: float | None = None
    psi_usual: float | None = None
    alarm: bool = False
    smaller: bool = False


@dataclass(frozen=True)
class Drift:
    """What was found in one window.

    Attributes:
        since: time of its oldest row; None without rows.
        until: time of its newest row.
    """

    model: str
    version: str
    since: datetime | None
    until: datetime | None
    findings: tuple[Finding, ...]

    @property
    def alarms(self) -> dict[Kind, bool]:
        """Of each kind whether anything drifted; kinds without a verdict are absent."""
        return {
            kind: any(one.alarm for one in self.findings if one.kind == kind)
            for kind in KINDS
            if any(one.p is not None for one in self.findings if one.kind == kind)
        }

    @property
    def smaller(self) -> bool:
        """Whether the errors became smaller than at training, beyond chance."""
        return any(one.smaller for one in self.findings)

    @property
    def alarm(self) -> bool:
        """Whether anything drifted."""
        return any(one.alarm for one in self.findings)


@dataclass(frozen=True)
class Window:
    """Rows of one distribution beside their reference.

    Attributes:
        values: numbers, or indices of categories; one past the last is a category that the reference lacks.
        times: of the values, in seconds since the epoch.
        learned: what is usual; None where the reference was too small.
    """

    kind: Kind
    name: str
    summary: Summary
    values: Array
    times: Array
    learned: Learned | None


def detect(contract: ModelContract, predictions: Sequence[Prediction], labelled: Sequence[Labelled] = ()) -> Drift:
    """Compare the newest rows with the contract's reference.

    Args:
        contract: of the version that is watched.
        predictions: oldest first; of these the newest are compared, as ``newest`` chooses them. Features are taken of
            all versions, predictions only of the contract's own.
        labelled: the same of those whose truth is known; only the contract's own count.

    Returns:
        The finding of each input, of the prediction and of the error. The level of 1 % is shared by the three kinds.
    """
    windows = windows_of(contract, predictions, labelled)
    found = [_finding(one) for one in windows]
    corrected = [judged for kind in KINDS for judged in _corrected([one for one in found if one.kind == kind])]
    times = [one.times for one in windows if one.kind != "errors" and len(one.times)]
    since, until = (min(one.min() for one in times), max(one.max() for one in times)) if times else (None, None)
    return Drift(contract.name, contract.version, _moment(since), _moment(until), tuple(corrected))


def windows_of(
    contract: ModelContract, predictions: Sequence[Prediction], labelled: Sequence[Labelled] = ()
) -> list[Window]:
    """The newest rows of each distribution that the reference has; arguments as of ``detect``."""
    reference = contract.reference
    windows = []
    for spec in contract.inputs:
        if summary := reference.inputs.get(spec.name):
            learned = read(summary.usual)
            told = [one for one in predictions if one.features.get(spec.name) is not None]
            rows = newest(learned, told, _time)
            values = _feature(spec, summary, [one.features[spec.name] for one in rows])
            windows.append(Window("features", spec.name, summary, values, _times(rows), learned))
    if summary := reference.output:
        learned = read(summary.usual)
        own = newest(learned, [one for one in predictions if one.version == contract.version], _time)
        values = _outputs(summary, [one.output for one in own])
        windows.append(Window("predictions", PREDICTION, summary, values, _times(own), learned))
    if summary := reference.errors:
        learned = read(summary.usual)
        answered = [one for one in labelled if one.prediction.version == contract.version]
        known = newest(learned, answered, lambda one: _time(one.prediction))
        times = _times([one.prediction for one in known])
        windows.append(Window("errors", ERROR, summary, _errors(summary, known), times, learned))
    return windows


def newest(learned: Learned | None, rows: Sequence[T], time: Callable[[T], float]) -> Sequence[T]:
    """Return the newest rows that are compared: as many as the reference can judge, over as much time, in whole days.

    Where the newest cover less time than its longest stretches, rows of as much time are taken, evenly thinned.

    Args:
        learned: of the reference.
        rows: oldest first.
        time: of a row, in seconds since the epoch.
    """
    most = UNJUDGED if learned is None else learned.rows
    if learned is None or not learned.span:
        return rows[-most:]
    within = rows[-most:]
    if len(rows) > most and time(within[0]) > (since := time(rows[-1]) - learned.span * HOUR):
        within = rows[bisect_left(rows, since, key=time) :]
    within = within[whole_days(np.array([time(one) for one in within])) :]
    return [within[i] for i in np.linspace(0, len(within) - 1, min(most, len(within))).round().astype(int)]


def window_needed(contract: ModelContract) -> tuple[int, timedelta]:
    """How many of the newest predictions ``detect`` looks at, at most, and over how much time at least."""
    reference = contract.reference
    summaries = [*reference.inputs.values(), reference.output, reference.errors]
    learned = [known for summary in summaries if summary and (known := read(summary.usual))]
    rows = max((one.rows for one in learned), default=UNJUDGED)
    return rows, timedelta(hours=max((one.span for one in learned), default=0))


def _time(row: Prediction) -> float:
    return row.time.timestamp()


def _times(rows: Sequence[Prediction]) -> Array:
    return np.array([_time(one) for one in rows], np.float64)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _finding(window: Window) -> Finding:
    summary, values, learned = window.summary, window.values, window.learned
    hours = hours_of(window.times, learned.cell if learned else 1.0)
    finding = Finding(window.kind, window.name, name_of(summary), len(values), None, hours)
    if learned:
        least = min(one.hours for one in learned.entries)
        finding = replace(finding, needed=min(one.rows for one in learned.entries), needed_hours=least)
    if not len(values):
        return finding
    finding = replace(finding, statistic=distance(summary, values), psi=psi(summary, values))
    usual = learned.fitting(len(values), hours) if learned else None
    if learned is None or usual is None:
        return finding
    p = p_value(learned, usual, summary, values)
    finding = replace(finding, limit=limit(usual, LEVEL / len(KINDS)), psi_usual=usual.psi, p=p)
    return replace(finding, smaller=window.kind == "errors" and _smaller(summary, values))


def _smaller(summary: Summary, errors: Array) -> bool:
    """Whether the errors are smaller than the reference's: the mean of their sizes, or the share of wrong ones."""
    if summary.counts:
        right, wrong = summary.counts.values()
        return bool(errors.mean() < wrong / (right + wrong))
    return bool(np.abs(errors).mean() < np.abs(summary.numbers).mean())


def _corrected(findings: list[Finding]) -> list[Finding]:
    known = [one.p for one in findings if one.p is not None]
    corrected = iter(stats.false_discovery_control(known) if known else [])
    judged = []
    for one in findings:
        if one.p is None:
            judged.append(one)
            continue
        p = float(next(corrected))
        differs = p < LEVEL / len(KINDS)
        judged.append(replace(one, corrected=p, alarm=differs and not one.smaller, smaller=differs and one.smaller))
    return judged


def _feature(spec: TensorSpec, summary: Summary, values: Sequence[Any]) -> Array:
    """As the reference summarises it: a text by its length, several values by their mean."""
    if summary.counts is not None:
        return _indices(summary, values)
    if spec.datatype == "BYTES":
        return np.array([len(text[:LONGEST_TEXT]) for text in values], np.float64)
    numbers = np.array(values, np.float64)
    return numbers if numbers.ndim == 1 else numbers.reshape(len(numbers), -1).mean(1)


def _outputs(summary: Summary, outputs: Sequence[Any]) -> Array:
    if summary.counts is not None:
        return _indices(summary, [output["label"] for output in outputs])
    return np.array(outputs, np.float64)


def _errors(summary: Summary, labelled: Sequence[Labelled]) -> Array:
    if summary.counts is not None:
        return np.array([one.label != one.prediction.output["label"] for one in labelled], np.int64)
    return np.array([one.prediction.output - float(one.label) for one in labelled], np.float64)


def _indices(summary: Summary, names: Sequence[str]) -> Array:
    places = {name: i for i, name in enumerate(summary.counts or {})}
    return np.array([places.get(name, len(places)) for name in names], np.int64)
