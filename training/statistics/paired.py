"""Two models on the same rows: the gain in error, and the slices whose error rises beyond chance.

Every comparison draws the same blocks of time for both models, so that the difficulty of rows cancels out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from handlers.contract import Array
from training.statistics.bootstrap import blocks_of, draws_of
from training.statistics.intervals import expanded
from training.statistics.pair import Pair

AT_ONCE = 100  # draws that are measured together: each takes a number a row
LEAST_GAIN = -1.0  # a lower gain counts as this: twice the error or more


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The loss of each row by each model.

    Attributes:
        champion: ``(n,)`` in order of time: squared differences of a regression, 1 for each wrong answer of a
            classification, 0 for a right one; likewise ``challenger``.
        rooted: whether the error is the root of the mean loss, as RMSE is, else the mean loss.
        measure: function of ``(draws, n)`` counts of the rows to ``(draws, 2)`` errors of champion and challenger, NaN
            where a draw's rows do not tell them; for an error that is no mean of losses, such as an AUC.
    """

    champion: Array
    challenger: Array
    rooted: bool
    measure: Callable[[Array], Array] | None = None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The reduction of the champion's error by the challenger, as a share; below 0 the error is higher.

    Attributes:
        low: end of the one-sided interval: the gain is above it with the chosen confidence.
        high: the gain is below it with the same confidence.
    """

    champion: float
    challenger: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Gain on the rows as they are."""
        return float(_gain(Pair(np.array([self.champion]), np.array([self.challenger])))[0])


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The errors of both models on some of the rows.

    Attributes:
        excess: least excess of the challenger's error over the tolerated one, in the unit of the error, with the chosen
            confidence for all slices together; above 0 the slice is worse.
    """

    name: str
    rows: int
    champion: float
    challenger: float
    excess: float

    @property
    def worse(self) -> bool:
        """Tell whether the slice is worse than tolerated, beyond chance."""
        return self.excess > 0


def gain(losses: Losses, confidence: float) -> Gain:
    """Measure the gain over all rows.

    The interval is of expanded percentiles (``expanded``): else an equal model would seem better in 6 of 100 cases
    instead of 5. ``tests/training/statistics/test_paired.py`` counts them.

    Args:
        losses: one row at least.
        confidence: for each end by itself, such as 0.95.
    """
    if losses.measure:
        value, drawn = _measured(losses.measure, len(losses.champion))
    else:
        (value,), resampled = _errors(losses, np.ones((1, len(losses.champion)), bool))
        drawn = resampled[:, 0]
    outside = expanded(1 - confidence, int(blocks_of(len(losses.champion))[-1]) + 1)
    low, high = np.quantile(_gain(Pair(drawn[:, 0], drawn[:, 1])), [outside, 1 - outside])
    return Gain(champion=float(value[0]), challenger=float(value[1]), low=float(low), high=float(high))


def compare_slices(losses: Losses, slices: Mapping[str, Array], tolerance: float, confidence: float) -> list[Slice]:
    """Measure slices of the rows, each by itself.

    The excess of a slice is challenger's error − (1 + tolerance) × champion's error. The slice counts as worse if the
    lower end of the excess is above 0.

    - The point estimate does not do: with ten slices of a hundred rows, up to half of the challengers that are as good
      as the champion have a slice that is a tenth worse by chance.
    - The ends hold for all slices together, by the largest standardised excess in each draw (Romano and Wolf 2005,
      Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing). Slices that share rows cost less than by
      Bonferroni's correction.
    - With a tolerance of a tenth an equal model is hardly ever refused; with none, up to a tenth of them are, where
      slices have a hundred rows. A small slice that is worse may be missed; the live quality after promotion shows it.

    Args:
        slices: ``(n,)`` BOOL masks of the rows by name, with one row at least.
        tolerance: share of the champion's error that a slice may be worse by.
        confidence: probability, for all slices together, that none exceeds its tolerance by chance.
    """
    if not slices:
        return []
    members = np.stack([np.asarray(inside, bool) for inside in slices.values()])
    value, drawn = _errors(losses, members)
    allowed = np.array([-(1 + tolerance), 1.0])
    excess, resampled = value @ allowed, drawn @ allowed  # (slices,), (draws, slices)
    defined = np.isfinite(resampled)  # a draw may have no row of a slice
    spread = np.array([np.std(column[there]) for column, there in zip(resampled.T, defined.T, strict=True)])
    varying = spread > 1e-12 * np.abs(value).max()
    standard = np.where(defined, resampled - excess, 0)[:, varying] / spread[varying]
    farthest = np.quantile(standard.max(axis=1), confidence) if varying.any() else 0.0
    low = excess - farthest * spread
    rows = members.sum(axis=1)
    return [
        Slice(
            name=name,
            rows=int(rows[i]),
            champion=float(value[i, 0]),
            challenger=float(value[i, 1]),
            excess=float(low[i]),
        )
        for i, name in enumerate(slices)
    ]


def worst(slices: Sequence[Slice]) -> Slice:
    """Return the slice with the largest ratio of the challenger's error to the champion's."""
    return max(slices, key=lambda part: -_gain(Pair(np.array([part.champion]), np.array([part.challenger])))[0])


def _measured(measure: Callable[[Array], Array], rows: int) -> tuple[Array, Array]:
    """Return both models' errors ``(2,)``, and those of each draw that tells them, ``(draws, 2)``."""
    block = blocks_of(rows)
    draws = draws_of(int(block[-1]) + 1)
    drawn = np.concatenate([measure(draws[i : i + AT_ONCE, block]) for i in range(0, len(draws), AT_ONCE)])
    complete = drawn[np.isfinite(drawn).all(1)]
    return measure(np.ones((1, rows)))[0], complete


def _errors(losses: Losses, members: Array) -> tuple[Array, Array]:
    """Return both models' errors by slice, ``(slices, 2)``, and by draw, ``(draws, slices, 2)``, NaN without rows."""
    block = blocks_of(len(losses.champion))
    blocks = int(block[-1]) + 1
    values = np.stack([np.ones(len(block)), losses.champion, losses.challenger])
    # (figures, slices, blocks): rows, and sums of both losses
    sums = np.array([[np.bincount(block, column * inside, blocks) for inside in members] for column in values])
    every = np.concatenate([np.ones((1, blocks)), draws_of(blocks)])
    count, *totals = sums @ every.T  # each (slices, 1 + draws)
    with np.errstate(invalid="ignore"):
        means = np.stack([total / count for total in totals], -1)
    errors: Array = (np.sqrt(means) if losses.rooted else means).swapaxes(0, 1)
    return errors[0], errors[1:]


def _gain(errors: Pair[Array]) -> Array:
    """Return the gained shares; 0 where both models are perfect."""
    champion, challenger = errors
    perfect = champion == 0
    shares = np.where(
        perfect, np.where(challenger > 0, LEAST_GAIN, 0.0), 1 - challenger / np.where(perfect, 1, champion)
    )
    return np.maximum(shares, LEAST_GAIN)
