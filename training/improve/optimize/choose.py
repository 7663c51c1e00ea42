"""The choice: the fastest variant that is no worse than it may be, if any is faster than the champion at all."""

from collections.abc import Sequence

from training.improve.optimize.result import VariantRow
from training.improve.optimize.variants import REFERENCE

MAX_DROP = 0.5  # points of the deciding metric
MAX_BATCH_EFFECT = 1e-3  # the tolerance of a probe of the served model


def choose(rows: Sequence[VariantRow], max_drop: float, batched: bool) -> str | None:
    """Return the name of the variant to serve, or None where the champion stays.

    Args:
        max_drop: points that the metric may be worse.
        batched: whether requests of different clients share a batch.
    """
    good = [row for row in rows if not objection(row, max_drop, batched)]
    return max(good, key=lambda row: row.speedup).variant if good else None


def objection(row: VariantRow, max_drop: float, batched: bool) -> str:
    """Return why a variant may not be chosen; empty if it may.

    The whole confidence interval counts: the metric must surely be good enough, and the variant surely faster. Among
    many variants the best estimate is a lucky one.
    """
    if row.variant == REFERENCE:
        return "the champion"
    if row.drop_high is None:
        return "computes NaN or infinity"
    if not row.drop_high <= max_drop:
        return "loses too much"
    if batched and row.batch_effect > MAX_BATCH_EFFECT:
        return "varies by batch"
    if row.speedup_low <= 1:
        return "not faster"
    return ""
