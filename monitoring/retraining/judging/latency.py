"""Which of two versions answers sooner, measured in this process, one row at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from monitoring.retraining.judging.archived import Archived
from monitoring.store.records import Prediction
from training.figures.timing import in_turns
from training.statistics.pair import Pair

ROUNDS = 300  # each answers the same row once
FEWEST_ROUNDS = 30
LONGEST = 5.0  # s of a measurement, if there were as many rounds as that
WARM_UP = 20  # rounds that do not count


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Medians of single rows.

    Attributes:
        champion_ms: of the champion's answers.
        challenger_ms: of the challenger's.
        ratio: the median over the rounds of the challenger's time, divided by the champion's in the same round: what
            else the machine does disturbs both, and a moment's disturbance spoils one round of many.
    """

    champion_ms: float
    challenger_ms: float
    ratio: float


def compare_latency(
    versions: Pair[Archived], rows: Sequence[Prediction], limit: float, rounds: int = ROUNDS
) -> Latency:
    """Time both in turn; once more where the limit is exceeded, of which the better is told.

    Args:
        versions: are timed.
        rows: one at least; they are answered in turn.
        limit: ratio that is allowed.
        rounds: at most.
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
