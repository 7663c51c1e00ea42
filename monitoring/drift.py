"""Drift: whether inputs, predictions or errors are distributed otherwise than in the data that a version knows.

Everything comes from the contract's reference, which also tells how far a window of contiguous rows usually is from the
rest: an alarm means further than any weather of the known weeks explains, not that rows are not independent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
from scipy import stats

from handlers.contract import ModelContract, TensorSpec
from handlers.events import LONGEST_TEXT
from monitoring.records import Labelled, Prediction
from training.distribution import Array, Summary, distance, limit, name_of, p_value, psi

Kind = Literal["features", "predictions", "errors"]
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
        statistic: the distance, 0 to 1; None without rows.
        limit: the distance from which on this test alone would alarm, of as many rows as are needed.
        p: the probability of a distance at least as large where nothing drifts; None without a verdict.
        corrected: the same after the correction for the number of features (Benjamini and Hochberg 1995).
        psi: the population stability index.
        psi_usual: which one window in a hundred of as many rows exceeds where nothing drifts.
        alarm: whether it drifted.
    """

    kind: Kind
    name: str
    test: str
    rows: int
    needed: int | None
    statistic: float | None = None
    limit: float | None = None
    p: float | None = None
    corrected: float | None = None
    psi: float | None = None
    psi_usual: float | None = None
    alarm: bool = False


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
    def alarm(self) -> bool:
        """Whether anything drifted."""
        return any(one.alarm for one in self.findings)


@dataclass(frozen=True)
class Window:
    """Rows of one distribution beside their reference.

    Attributes:
        values: numbers, or indices of categories; one past the last is a category that the reference lacks.
    """

    kind: Kind
    name: str
    summary: Summary
    values: Array


def detect(contract: ModelContract, predictions: Sequence[Prediction], labelled: Sequence[Labelled] = ()) -> Drift:
    """Compare the newest rows with the contract's reference.

    Args:
        contract: of the version that is watched.
        predictions: oldest first; as many of the newest as the reference's window are compared. Features are taken of
            all versions, predictions only of the contract's own.
        labelled: oldest first; errors are taken of the contract's own version.

    Returns:
        A finding for each input, the prediction and the error. The level of 1 % is shared by the three kinds.
    """
    windows = windows_of(contract, predictions, labelled)
    found = [_finding(one) for one in windows]
    corrected = [judged for kind in KINDS for judged in _corrected([one for one in found if one.kind == kind])]
    rows = max((len(one.values) for one in windows), default=0)
    times = [one.time for one in predictions[-rows:]] if rows else []
    return Drift(contract.name, contract.version, min(times, default=None), max(times, default=None), tuple(corrected))


def windows_of(
    contract: ModelContract, predictions: Sequence[Prediction], labelled: Sequence[Labelled] = ()
) -> list[Window]:
    """The newest rows of each distribution that the reference has; arguments as of ``detect``."""
    reference = contract.reference
    windows = []
    for spec in contract.inputs:
        if summary := reference.get("inputs", {}).get(spec.name):
            told = (one.features.get(spec.name) for one in _newest(summary, predictions))
            values = _feature(spec, summary, [value for value in told if value is not None])
            windows.append(Window("features", spec.name, summary, values))
    if summary := reference.get("output"):
        own = [one for one in predictions if one.version == contract.version]
        values = _outputs(summary, [one.output for one in _newest(summary, own)])
        windows.append(Window("predictions", PREDICTION, summary, values))
    if summary := reference.get("errors"):
        known = [one for one in labelled if one.prediction.version == contract.version]
        windows.append(Window("errors", ERROR, summary, _errors(summary, _newest(summary, known))))
    return windows


def rows_needed(contract: ModelContract) -> int:
    """How many of the newest predictions ``detect`` looks at, at most."""
    reference = contract.reference
    summaries = [*reference.get("inputs", {}).values(), reference.get("output", {}), reference.get("errors", {})]
    return max((one["usual"]["window"] for one in summaries if "usual" in one), default=UNJUDGED)


def _newest(summary: Summary, rows: Sequence[Any]) -> Sequence[Any]:
    return rows[-summary.get("usual", {"window": UNJUDGED})["window"] :]


def _finding(window: Window) -> Finding:
    summary, values = window.summary, window.values
    learned: Mapping[str, float] | None = summary.get("usual")
    needed = None if learned is None else int(learned["window"])
    finding = Finding(window.kind, window.name, name_of(summary), len(values), needed)
    if not len(values):
        return finding
    found = distance(summary, values)
    finding = replace(finding, statistic=found, psi=psi(summary, values))
    if learned is None:
        return finding
    finding = replace(finding, limit=limit(learned, LEVEL / len(KINDS)), psi_usual=learned["psi"])
    return finding if len(values) < learned["window"] else replace(finding, p=p_value(learned, found))


def _corrected(findings: list[Finding]) -> list[Finding]:
    known = [one.p for one in findings if one.p is not None]
    corrected = iter(stats.false_discovery_control(known) if known else [])
    judged = []
    for one in findings:
        if one.p is None:
            judged.append(one)
            continue
        p = float(next(corrected))
        judged.append(replace(one, corrected=p, alarm=p < LEVEL / len(KINDS)))
    return judged


def _feature(spec: TensorSpec, summary: Summary, values: Sequence[Any]) -> Array:
    """As the reference summarises it: a text by its length, several values by their mean."""
    if "counts" in summary:
        return _indices(summary, values)
    if spec.datatype == "BYTES":
        return np.array([len(text[:LONGEST_TEXT]) for text in values], np.float64)
    numbers = np.array(values, np.float64)
    return numbers if numbers.ndim == 1 else numbers.reshape(len(numbers), -1).mean(1)


def _outputs(summary: Summary, outputs: Sequence[Any]) -> Array:
    if "counts" in summary:
        return _indices(summary, [output["label"] for output in outputs])
    return np.array(outputs, np.float64)


def _errors(summary: Summary, labelled: Sequence[Labelled]) -> Array:
    if "counts" in summary:
        return np.array([one.label != one.prediction.output["label"] for one in labelled], np.int64)
    return np.array([one.prediction.output - float(one.label) for one in labelled], np.float64)


def _indices(summary: Summary, names: Sequence[str]) -> Array:
    places = {name: i for i, name in enumerate(summary["counts"])}
    return np.array([places.get(name, len(places)) for name in names], np.int64)
