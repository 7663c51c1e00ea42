"""Drift: whether inputs, predictions or errors are distributed otherwise than in the data that a version learned.

The contract's reference also holds how far a stretch of time usually is from the rest. An alarm means further than any
stretch of the learned weeks, not that rows are not independent. A window that covers less time than the reference can
judge gets no verdict.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
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
from training.statistics.targets import Target, targets_of
from training.statistics.usual import HOUR, Learned, hours_of, limit, p_value, read_usual, whole_days

Kind = Literal["features", "predictions", "errors"]
T = TypeVar("T")
KINDS: tuple[Kind, ...] = ("features", "predictions", "errors")
LEVEL = 0.01  # probability that a window alarms where nothing drifts
UNJUDGED = 1000  # rows that are compared where the reference was too small for a verdict
PREDICTION, ERROR = "prediction", "error"  # names of the findings that are not about an input
MISSING = "{} missing"  # name of the finding about whether a nullable input has a value


@dataclass(frozen=True)
class Finding:
    """One distribution against its reference.

    Attributes:
        name: name of the input, or ``prediction`` or ``error``, of a target after the first ``prediction of y``;
            ``x missing`` where it is whether ``x`` has a value.
        test: ``ks``, the distance of Kolmogorov and Smirnov, or ``js``, that of Jensen and Shannon.
        rows: number of rows in the window.
        needed: rows that a verdict needs; None where the reference was too small to learn what is usual.
        hours: hours that the rows cover, each counted by its share of them.
        needed_hours: hours that they must cover for a verdict; 0 where the reference has no times.
        statistic: the distance, 0 to 1; None without rows.
        limit: the distance from which on this test alone would alarm, with as many rows as are needed.
        p: the probability of a distance at least as large where nothing drifts; None without a verdict.
        corrected: ``p`` after the correction for the number of features (Benjamini and Hochberg 1995).
        psi: the population stability index.
        psi_usual: the index that one window in a hundred of as many rows exceeds where nothing drifts.
        alarm: whether it drifted; errors that became smaller do not alarm.
        smaller: whether the errors changed because they became smaller.
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
    """The findings of one window.

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
        """Return whether anything drifted, by kind; kinds without a verdict are absent."""
        return {
            kind: any(finding.alarm for finding in self.findings if finding.kind == kind)
            for kind in KINDS
            if any(finding.p is not None for finding in self.findings if finding.kind == kind)
        }

    @property
    def smaller(self) -> bool:
        """Return whether the errors became smaller than at training, beyond chance."""
        return any(finding.smaller for finding in self.findings)

    @property
    def alarm(self) -> bool:
        """Return whether anything drifted."""
        return any(finding.alarm for finding in self.findings)


@dataclass(frozen=True)
class Window:
    """Rows of one distribution beside their reference.

    Attributes:
        values: numbers, or indices of categories; one past the last is a category that the reference lacks.
        times: a time for each value, in seconds since the epoch.
        learned: the usual distances; None where the reference was too small.
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
        contract: describes the version that is watched.
        predictions: oldest first; ``newest`` chooses the rows that are compared. Features count of all versions,
            predictions only of the contract's own.
        labelled: predictions whose truth is known, oldest first; only those of the contract's version count.

    Returns:
        The finding of each input, of the prediction and of the error. The level of 1 % is shared by the three kinds.
    """
    windows = windows_of(contract, predictions, labelled)
    findings = [_finding(window) for window in windows]
    corrected = [
        judged for kind in KINDS for judged in _corrected([finding for finding in findings if finding.kind == kind])
    ]
    times = [window.times for window in windows if window.kind != "errors" and len(window.times)]
    since, until = (min(map(np.min, times)), max(map(np.max, times))) if times else (None, None)
    return Drift(contract.name, contract.version, _moment(since), _moment(until), tuple(corrected))


def windows_of(
    contract: ModelContract, predictions: Sequence[Prediction], labelled: Sequence[Labelled] = ()
) -> list[Window]:
    """Return the newest rows of each distribution that the reference has; arguments as of ``detect``."""
    reference = contract.reference
    windows: list[Window] = []
    for spec in contract.inputs:
        if summary := reference.inputs.get(spec.name):
            windows += _of_input(spec, summary, predictions, contract.version)
    own = [row for row in predictions if row.version == contract.version]
    answered = [row for row in labelled if row.prediction.version == contract.version]
    return windows + [window for target in targets_of(contract) for window in _of_target(target, own, answered)]


def _of_target(target: Target, predictions: Sequence[Prediction], labelled: Sequence[Labelled]) -> Iterator[Window]:
    """Yield the answers and the errors of a version's own rows."""
    reference = target.contract.reference
    if summary := reference.output:
        learned = read_usual(summary.usual)
        rows = newest(learned, predictions, _time)
        values = _outputs(summary, [target.value(row.output) for row in rows])
        yield Window("predictions", PREDICTION + target.suffix, summary, values, _times(rows), learned)
    if summary := reference.errors:
        learned = read_usual(summary.usual)
        judged = newest(learned, labelled, lambda row: _time(row.prediction))
        times = _times([row.prediction for row in judged])
        pairs = [(target.value(row.prediction.output), target.value(row.label)) for row in judged]
        yield Window("errors", ERROR + target.suffix, summary, _errors(summary, pairs), times, learned)


def _of_input(spec: TensorSpec, summary: Summary, predictions: Sequence[Prediction], version: str) -> Iterator[Window]:
    """Yield the values of an input that are present, and of a nullable one whether they are."""
    name, missing = spec.name, summary.missing
    if summary.quantiles is not None or summary.counts is not None:
        learned = read_usual(summary.usual)
        present = [row for row in predictions if row.features.get(name) is not None]
        rows = newest(learned, present, _time)
        values = _feature(spec, summary, [row.features[name] for row in rows])
        yield Window("features", name, summary, values, _times(rows), learned)
    if missing:
        learned = read_usual(missing.usual)
        own = [row for row in predictions if name in row.features or row.version == version]
        rows = newest(learned, own, _time)
        gone = np.array([row.features.get(name) is None for row in rows], np.int64)
        yield Window("features", MISSING.format(name), missing, gone, _times(rows), learned)


def newest(learned: Learned | None, rows: Sequence[T], time: Callable[[T], float]) -> Sequence[T]:
    """Return the newest rows that are compared: as many as the reference can judge, over as much time, in whole days.

    Where the newest cover less time than its longest stretches, rows of as much time are chosen, evenly thinned.

    Args:
        rows: oldest first.
        time: returns the time of a row, in seconds since the epoch.
    """
    most = UNJUDGED if learned is None else learned.rows
    if learned is None or not learned.span:
        return rows[-most:]
    within = rows[-most:]
    if len(rows) > most and time(within[0]) > (since := time(rows[-1]) - learned.span * HOUR):
        within = rows[bisect_left(rows, since, key=time) :]
    within = within[whole_days(np.array([time(row) for row in within])) :]
    return [within[i] for i in np.linspace(0, len(within) - 1, min(most, len(within))).round().astype(int)]


def window_needed(contract: ModelContract) -> tuple[int, timedelta]:
    """Return how many of the newest predictions ``detect`` looks at, at most, and over how much time at least."""
    reference = contract.reference
    inputs = [part for summary in reference.inputs.values() for part in (summary, summary.missing)]
    answers = [part for own in (reference, *reference.targets.values()) for part in (own.output, own.errors)]
    summaries = [*inputs, *answers]
    learned = [usual for summary in summaries if summary and (usual := read_usual(summary.usual))]
    rows = max((each.rows for each in learned), default=UNJUDGED)
    return rows, timedelta(hours=max((each.span for each in learned), default=0))


def _time(row: Prediction) -> float:
    return row.time.timestamp()


def _times(rows: Sequence[Prediction]) -> Array:
    return np.array([_time(row) for row in rows], np.float64)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _finding(window: Window) -> Finding:
    summary, values, learned = window.summary, window.values, window.learned
    hours = hours_of(window.times, learned.cell if learned else 1.0)
    finding = Finding(window.kind, window.name, name_of(summary), len(values), None, hours)
    if learned:
        least = min(entry.hours for entry in learned.entries)
        finding = replace(finding, needed=min(entry.rows for entry in learned.entries), needed_hours=least)
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
    """Return whether the errors' mean absolute size, or share of wrong answers, is below the reference's."""
    if summary.counts:
        right, wrong = summary.counts.values()
        return bool(errors.mean() < wrong / (right + wrong))
    return bool(np.abs(errors).mean() < np.abs(summary.numbers).mean())


def _corrected(findings: list[Finding]) -> list[Finding]:
    chances = [finding.p for finding in findings if finding.p is not None]
    corrected = iter(stats.false_discovery_control(chances) if chances else [])
    judged = []
    for finding in findings:
        if finding.p is None:
            judged.append(finding)
            continue
        p = float(next(corrected))
        differs = p < LEVEL / len(KINDS)
        judged.append(
            replace(finding, corrected=p, alarm=differs and not finding.smaller, smaller=differs and finding.smaller)
        )
    return judged


def _feature(spec: TensorSpec, summary: Summary, values: Sequence[Any]) -> Array:
    """Return values as the reference summarises them: a text by its length, several values by their mean."""
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


def _errors(summary: Summary, pairs: Sequence[tuple[Any, Any]]) -> Array:
    """Return the errors of answers, each with its truth."""
    if summary.counts is not None:
        return np.array([truth != answer["label"] for answer, truth in pairs], np.int64)
    return np.array([answer - float(truth) for answer, truth in pairs], np.float64)


def _indices(summary: Summary, names: Sequence[str]) -> Array:
    places = {name: i for i, name in enumerate(summary.counts or {})}
    return np.array([places.get(name, len(places)) for name in names], np.int64)
