"""Live quality: metrics of the predictions whose truth is known, and how sure they are.

Intervals come from a bootstrap of blocks of time; those of shares are never narrower than Wilson's. Where neighbours
are alike for longer than a block, fifty blocks are too few for a perfect level: take 95 % as about 90.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from handlers.contract import Array, ModelContract
from monitoring.live.limits import METRICS, expected, limits
from monitoring.store.records import Labelled
from training.statistics.bootstrap import blocks_of, draws_of
from training.statistics.criteria import ERRORS
from training.statistics.intervals import auc_with_influence, expanded, of_confusion, of_shares, wider
from training.statistics.targets import Target, targets_of
from training.statistics.usual import hours_of

LEVEL = 0.95
WORSE = 1.1  # times the error at training, as `objective:quality_loss:ratio` of the rules
FEWEST_ROWS = 200  # for an alarm
Measure = Callable[[Array], dict[str, Array]]  # (draws, blocks) how often each block counts -> (draws,) of each metric


@dataclass(frozen=True)
class Metric:
    """A figure with its interval.

    Attributes:
        low: end of the interval that holds 95 % of the resamples.
        high: the other end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """The quality of some rows.

    Attributes:
        metrics: for a regression ``rmse``, ``mae`` and ``bias``, answer − truth, in the output's unit, of each target
            as ``training.statistics.targets`` names them; for a classification ``accuracy``, and ``precision``,
            ``recall``, ``f1`` and ``auc``, each the mean over the classes that are there.
        since: time of the oldest prediction.
        until: time of the newest prediction.
        delay_seconds: median of the time from the prediction to its label.
        delay_longest_seconds: its 95th percentile.
        hours: hours that the rows cover, each counted by its share of them.
        limits: the value that a metric passes in one window in a hundred where nothing changed; see
            ``monitoring.live.limits``.
    """

    rows: int
    metrics: dict[str, Metric]
    since: datetime
    until: datetime
    delay_seconds: float
    delay_longest_seconds: float
    hours: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Quality:
    """The quality of a model.

    Attributes:
        all: quality over all versions; None without labels.
        versions: quality of each version that has labels.
    """

    model: str
    all: Measured | None
    versions: dict[str, Measured]


def measure(
    contract: ModelContract,
    labelled: Sequence[Labelled],
    version: Callable[[str], ModelContract | None] = lambda number: None,
) -> Quality:
    """Measure predictions whose truth is known.

    Args:
        contract: its task and labels are those of all versions; its limits are its own version's.
        labelled: the window, in any order.
        version: returns the contract of another version, with its limits; None where it cannot be read.
    """
    rows = sorted(labelled, key=lambda row: (row.prediction.time, row.prediction.request_id, row.prediction.row))
    versions = dict.fromkeys(row.prediction.version for row in rows)
    each = {name: [row for row in rows if row.prediction.version == name] for name in versions}
    by_version = {}
    for name, own in each.items():
        reference = contract if name == contract.version else version(name)
        times = np.array([row.prediction.time.timestamp() for row in own])
        measured = _measured(contract, own)
        by_version[name] = replace(measured, limits=_limits(reference, times)) if reference else measured
    if len(by_version) == 1:
        return Quality(contract.name, next(iter(by_version.values())), by_version)
    return Quality(contract.name, _measured(contract, rows) if rows else None, by_version)


def _limits(contract: ModelContract, times: Array) -> dict[str, float]:
    return {
        name + target.suffix: value
        for target in targets_of(contract)
        for name, value in limits(target.contract, times).items()
    }


def fell(contract: ModelContract, measured: Measured) -> bool:
    """Return whether the quality of rows that a version answered is bad enough for an alarm, in any of its targets.

    Prometheus's rule ModelQualityFell has the same condition.
    """
    metric = METRICS.get(contract.task, "")
    return any(_fell(contract, measured, metric, target.suffix) for target in targets_of(contract))


def _fell(contract: ModelContract, measured: Measured, metric: str, suffix: str) -> bool:
    name = metric + suffix
    usual, limit = expected(contract.evaluation).get(name), measured.limits.get(name)
    value = measured.metrics.get(name)
    if usual is None or value is None or limit is None or measured.rows < FEWEST_ROWS:
        return False
    if metric in ERRORS:
        return value.low > WORSE * usual and value.value > limit
    return 1 - value.high > WORSE * (1 - usual) and value.value < limit


def _measured(contract: ModelContract, rows: Sequence[Labelled]) -> Measured:
    block = blocks_of(len(rows))
    blocks = int(block[-1]) + 1
    measure = (_classification if contract.task == "classification" else _regression)(contract, rows, block)
    values, resampled = measure(np.ones((1, blocks), int)), measure(draws_of(blocks))
    outside = expanded((1 - LEVEL) / 2, blocks)
    shares = of_shares(_confusion(contract, rows)) if contract.task == "classification" else {}
    metrics = {}
    for name, (value,) in values.items():
        finite = resampled[name][np.isfinite(resampled[name])]
        if np.isfinite(value):
            low, high = np.quantile(finite, [outside, 1 - outside])
            metrics[name] = Metric(float(value), *wider(name, float(low), float(high), shares, len(rows)))
    delays = [(row.labelled - row.prediction.time).total_seconds() for row in rows]
    times = [row.prediction.time for row in rows]
    middle, longest = np.maximum(np.quantile(delays, [0.5, 0.95]), 0.0)  # two machines' clocks may differ
    hours = hours_of(np.array([time.timestamp() for time in times]), 1.0)
    return Measured(len(rows), metrics, times[0], times[-1], float(middle), float(longest), hours)


def _regression(contract: ModelContract, rows: Sequence[Labelled], block: Array) -> Measure:
    parts = [(target.suffix, _of_target(target, rows, block)) for target in targets_of(contract)]
    return lambda times: {name + end: values for end, part in parts for name, values in part(times).items()}


def _of_target(target: Target, rows: Sequence[Labelled], block: Array) -> Measure:
    error = np.array([float(target.value(row.prediction.output)) - float(target.value(row.label)) for row in rows])
    sums = np.stack([np.bincount(block, each) for each in (np.ones(len(error)), error**2, np.abs(error), error)])

    def measure(times: Array) -> dict[str, Array]:
        count, squared, absolute, signed = sums @ times.T
        return {"rmse": np.sqrt(squared / count), "mae": absolute / count, "bias": signed / count}

    return measure


def _confusion(contract: ModelContract, rows: Sequence[Labelled]) -> Array:
    place = {label: i for i, label in enumerate(contract.labels)}
    counts = np.zeros((len(place), len(place)), np.int64)
    for row in rows:
        counts[place[str(row.label)], place[row.prediction.output["label"]]] += 1
    return counts


def _classification(contract: ModelContract, rows: Sequence[Labelled], block: Array) -> Measure:
    classes = len(contract.labels)
    place = {label: i for i, label in enumerate(contract.labels)}
    truth = np.array([place[str(row.label)] for row in rows])
    answer = np.array([place[row.prediction.output["label"]] for row in rows])
    cells = np.zeros((block[-1] + 1, classes, classes))
    np.add.at(cells, (block, truth, answer), 1)
    auc, influence = auc_with_influence(np.array([row.prediction.output["probabilities"] for row in rows]), truth)
    sums, sizes = np.bincount(block, influence), np.bincount(block)

    def measure(times: Array) -> dict[str, Array]:
        counts = np.tensordot(times, cells, 1)  # (draws, truth, answer)
        return {
            **of_confusion(counts),
            "auc": np.clip(auc + times @ sums / (times @ sizes), 0, 1),
        }

    return measure
