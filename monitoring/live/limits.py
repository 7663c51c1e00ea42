"""From which value on a live metric is no matter of chance or weather, by the time and the rows that it is of."""

import math
from collections.abc import Mapping

from scipy import stats

from handlers.contract import Array, ModelContract
from handlers.contract.model_card import Evaluation, Stretch, Summary
from training.statistics.criteria import ERRORS
from training.statistics.usual import hours_of, loss_limit, read

LEVEL = 0.01  # probability that a window is beyond the limit where nothing changed
UNKNOWN = 1.5  # times the error at training, where a version does not know how far stretches of time differ
METRICS = {"regression": "rmse", "classification": "accuracy"}


def limits(contract: ModelContract, times: Array) -> dict[str, float]:
    """Return the limit of each metric that can be judged, an upper one of errors, a lower one of others.

    Args:
        contract: of the version that answered.
        times: ``(n,)`` of the rows whose truth is known, in seconds since the epoch.

    Returns:
        Nothing where the rows cover less time, or are fewer, than the reference can judge. An archive of a former
        version does not know how far its stretches differ: half as much again as its error at training is the limit.
    """
    metric = METRICS.get(contract.task)
    summary = contract.reference.errors
    learned = read(summary.usual) if summary else None
    if metric is None or not len(times):
        return {}
    usual = learned.fitting(len(times), hours_of(times, learned.cell)) if learned else None
    if learned and usual is None:
        return {}
    value = _known(contract, usual) if usual and learned else None
    if value is None:
        value = _unknown(contract, metric)
    if value is None:
        return {}
    if metric == "accuracy":
        value = 1 - max(1 - value, _by_chance(summary, len(times)))
    return {metric: value}


def expected(evaluation: Evaluation) -> dict[str, float]:
    """Return what a version may be expected to reach, by metric: as on held-out or on learned rows, the worse.

    A retraining holds the newest few days out. Where they were calm, a version that does as well as ever afterwards
    would seem to have become worse.

    Args:
        evaluation: of its contract.
    """
    held_out = _measured(evaluation.metrics)
    learned = _measured(evaluation.learned.metrics if evaluation.learned else {})
    return {name: (max if name in ERRORS else min)(value, learned.get(name, value)) for name, value in held_out.items()}


def _measured(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Leave out what could not be measured."""
    return {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}


def _known(contract: ModelContract, usual: Stretch) -> float | None:
    loss = loss_limit(usual, LEVEL)
    if loss is None:
        return None
    return math.exp(loss) if contract.task == "regression" else 1 - math.sin(min(loss, math.pi / 2)) ** 2


def _unknown(contract: ModelContract, metric: str) -> float | None:
    usual = expected(contract.evaluation).get(metric)
    if usual is None:
        return None
    return UNKNOWN * usual if metric in ERRORS else 1 - UNKNOWN * (1 - usual)


def _by_chance(summary: Summary | None, rows: int) -> float:
    """The share of wrong answers that so many independent rows pass, with as many known ones, in a case of a hundred.

    The beta-binomial prediction from Jeffreys' prior (Brown, Cai and DasGupta 2001, Interval Estimation for a Binomial
    Proportion): no wrong answer among the known ones does not promise none.
    """
    right, wrong = summary.counts.values() if summary and summary.counts else (0, 0)
    return float(stats.betabinom.isf(LEVEL, rows, wrong + 0.5, right + 0.5)) / rows
