"""Which of two versions answers sooner, measured in this process, one row at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

from monitoring.retraining.judging.archived import Archived
from monitoring.store.records import Prediction
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
    found = _measure(versions, rows, rounds)
    if found.ratio > limit:
        found = min(found, _measure(versions, rows, rounds), key=lambda one: one.ratio)
    return found


def _measure(versions: Pair[Archived], rows: Sequence[Prediction], rounds: int) -> Latency:
    champion, challenger = versions
    pairs: list[tuple[float, float]] = []
    total = 0.0
    for i, row in enumerate(islice(cycle(rows), WARM_UP + rounds)):
        if i % 2:  # neither is always the one that finds the other's data in the caches
            after, before = challenger.seconds(row), champion.seconds(row)
        else:
            before, after = champion.seconds(row), challenger.seconds(row)
        total += before + after
        if i >= WARM_UP:
            pairs.append((before, after))
        if len(pairs) >= FEWEST_ROUNDS and total > LONGEST:
            break
    ratio = median(after / before for before, after in pairs)
    champion_ms, challenger_ms = (1000 * median(times) for times in zip(*pairs, strict=True))
    return Latency(champion_ms=champion_ms, challenger_ms=challenger_ms, ratio=ratio)
