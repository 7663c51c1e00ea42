"""Latency of two versions, measured in this process, one row at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from monitoring.retraining.judging.archived import Archived
from monitoring.store.records import Prediction
from training.figures.timing import in_turns
from training.statistics.pair import Pair

ROUNDS = 300  # in each, both versions answer the same row once
FEWEST_ROUNDS = 30
LONGEST = 5.0  # s; a measurement ends after it, once it has ``FEWEST_ROUNDS``
WARM_UP = 20  # rounds that do not count


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Medians of single rows.

    Attributes:
        ratio: the median over the rounds of the challenger's time divided by the champion's in the same round. Other
            load on the machine disturbs both, and a moment's disturbance spoils one round of many.
    """

    champion_ms: float
    challenger_ms: float
    ratio: float


def compare_latency(
    versions: Pair[Archived], rows: Sequence[Prediction], limit: float, rounds: int = ROUNDS
) -> Latency:
    """Time both versions in turn; where the limit is exceeded, measure once more and return the better result.

    Args:
        rows: at least one; they are answered in turn.
        limit: the allowed ratio.
        rounds: greatest number of rounds.
    """
    latency = _measure(versions, rows, rounds)
    if latency.ratio > limit:
        latency = min(latency, _measure(versions, rows, rounds), key=lambda measured: measured.ratio)
    return latency


def _measure(versions: Pair[Archived], rows: Sequence[Prediction], rounds: int) -> Latency:
    def turn(version: Archived, number: int) -> float:
        return version.seconds(rows[number % len(rows)])

    calls = {name: partial(turn, version) for name, version in versions._asdict().items()}
    measured: list[dict[str, float]] = []
    total = 0.0
    for seconds in in_turns(calls, WARM_UP + rounds):
        total += sum(seconds.values())
        measured.append(seconds)
        if len(measured) >= WARM_UP + FEWEST_ROUNDS and total > LONGEST:
            break
    counted = measured[WARM_UP:]
    return Latency(
        champion_ms=1000 * median(seconds["champion"] for seconds in counted),
        challenger_ms=1000 * median(seconds["challenger"] for seconds in counted),
        ratio=median(seconds["challenger"] / seconds["champion"] for seconds in counted),
    )
