"""Limits of live metrics, beyond which chance and weather explain a value no more, by the window's rows and hours."""

import math
from collections.abc import Mapping

from scipy import stats

from handlers.contract import Array, ModelContract
from handlers.contract.model_card import Evaluation, Stretch, Summary
from training.statistics.criteria import ERRORS, more_is_better
from training.statistics.usual import hours_of, loss_limit, read_usual

LEVEL = 0.01  # probability that a window is beyond the limit where nothing changed
UNKNOWN = 1.5  # times the error at training, where a version has not learned how far stretches of time differ
METRICS = {"regression": "rmse", "classification": "accuracy"}


def limits(contract: ModelContract, times: Array) -> dict[str, float]:
    """Return the limit of each metric that can be judged: an upper one of errors, a lower one of others.

    The result is empty where the rows cover less time, or are fewer, than the reference can judge. An archive of a
    former Marloop does not hold how far its stretches differ: the limit is then 1.5 times its error at training.

    Args:
        contract: describes the version that answered.
        times: ``(n,)`` of the rows whose truth is known, in seconds since the epoch.
    """
    metric = METRICS.get(contract.task)
    summary = contract.reference.errors
    learned = read_usual(summary.usual) if summary else None
    if metric is None or not len(times):
        return {}
    usual = learned.fitting(len(times), hours_of(times, learned.cell)) if learned else None
    if learned and usual is None:
        return {}
    value = _learned_limit(contract, usual) if usual and learned else None
    if value is None:
        value = _default_limit(contract, metric)
    if value is None:
        return {}
    if metric == "accuracy":
        value = 1 - max(1 - value, _by_chance(summary, len(times)))
    return {metric: value}


def expected(evaluation: Evaluation) -> dict[str, float]:
    """Return the expected value of each metric: that of held-out or of learned rows, whichever is worse.

    A retraining holds the newest few days out. Where they were calm, a version that does as well as ever afterwards
    would seem to have become worse.
    """
    held_out = _measured(evaluation.metrics)
    learned = _measured(evaluation.learned.metrics if evaluation.learned else {})
    return {
        name: (min if more_is_better(name) else max)(value, learned.get(name, value))
        for name, value in held_out.items()
    }


def _measured(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the metrics that could be measured."""
    return {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}


def _learned_limit(contract: ModelContract, usual: Stretch) -> float | None:
    loss = loss_limit(usual, LEVEL)
    if loss is None:
        return None
    return math.exp(loss) if contract.task == "regression" else 1 - math.sin(min(loss, math.pi / 2)) ** 2


def _default_limit(contract: ModelContract, metric: str) -> float | None:
    usual = expected(contract.evaluation).get(metric)
    if usual is None:
        return None
    return UNKNOWN * usual if metric in ERRORS else 1 - UNKNOWN * (1 - usual)


def _by_chance(summary: Summary | None, rows: int) -> float:
    """Return the share of wrong answers that one window in a hundred of so many independent rows exceeds by chance.

    The beta-binomial prediction from Jeffreys' prior (Brown, Cai and DasGupta 2001, Interval Estimation for a Binomial
    Proportion): no wrong answer in the reference does not promise none.
    """
    right, wrong = summary.counts.values() if summary and summary.counts else (0, 0)
    return float(stats.betabinom.isf(LEVEL, rows, wrong + 0.5, right + 0.5)) / rows
