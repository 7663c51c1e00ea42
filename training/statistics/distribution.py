"""A distribution in a few numbers, and the distance of rows from it.

There are two measures:

- **the distance** decides, between 0, the same, and 1, nothing in common: for numbers the statistic of Kolmogorov and
  Smirnov, the largest gap between the cumulative shares; for categories the distance of Jensen and Shannon, base 2;
- **the population stability index**, PSI, is the one that many are used to.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.spatial.distance import jensenshannon

from handlers.contract import Array
from handlers.contract.model_card import Summary

QUANTILES = 257  # evenly spaced, both ends included
BINS = 10  # bins of a PSI of numbers, as many as the quantiles tell apart
CHANCES = 2000  # draws for the chance distance of categories


def of_numbers(values: Array) -> Summary:
    """Summarize numbers by their quantiles."""
    quantiles = np.quantile(values.astype(np.float64), np.linspace(0, 1, QUANTILES))
    return Summary(quantiles=[float(f"{value:.6g}") for value in quantiles])


def of_categories(indices: Array, names: Sequence[str]) -> Summary:
    """Summarize categories by their counts, from their indices."""
    counts = np.bincount(indices, minlength=len(names))
    return Summary(counts={name: int(count) for name, count in zip(names, counts, strict=True)})


def name_of(summary: Summary) -> str:
    """Return the short name of the distance: ``ks`` or ``js``."""
    return "js" if summary.quantiles is None else "ks"


def distance(summary: Summary, values: Array) -> float:
    """Measure the distance of rows from a summary.

    Args:
        values: ``(n,)`` numbers, or indices of categories; one past the last is a category that the summary lacks.
    """
    if summary.quantiles is not None:
        reference, sample = summary.numbers, np.sort(values)
        places = np.concatenate([reference, sample])
        shares = [np.searchsorted(ordered, places, "right") / len(ordered) for ordered in (reference, sample)]
        return float(np.abs(shares[0] - shares[1]).max())
    reference, sample = _counts(summary, values)
    return float(np.nan_to_num(jensenshannon(reference, sample, base=2)))


def psi(summary: Summary, values: Array) -> float:
    """Return the population stability index; arguments as for ``distance``.

    Numbers are counted between the summary's deciles. Half a row is added to each bin, so that an empty one gives no
    infinite index.
    """
    if summary.quantiles is not None:
        quantiles = summary.numbers
        edges = np.unique(quantiles[np.linspace(0, QUANTILES - 1, BINS + 1).round().astype(int)[1:-1]])
        reference, sample = (
            np.bincount(np.digitize(part, edges), minlength=len(edges) + 1) for part in (quantiles, values)
        )
    else:
        reference, sample = _counts(summary, values)
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (reference, sample))
    return float(((q - p) * np.log(q / p)).sum())


def chance_p(summary: Summary, values: Array, reference_rows: int) -> float:
    """Return the probability of a distance at least as large if all rows came independently from one distribution.

    For numbers it is Kolmogorov's, which is too large where values are tied. For categories both samples are drawn
    from the pooled counts, so that a category that one row of thousands has is no surprise.

    Args:
        summary: the reference's.
        values: the window's.
    """
    observed = distance(summary, values)
    if summary.quantiles is not None:
        effective = round(len(values) * reference_rows / (len(values) + reference_rows))
        return float(stats.kstwo.sf(observed, max(1, effective)))
    counts = _counts(summary, values)
    pooled = sum(counts) / sum(count.sum() for count in counts)
    chance = np.random.default_rng(0)
    drawn = [chance.multinomial(int(count.sum()), pooled, CHANCES) for count in counts]
    beyond = int((jensenshannon(drawn[0], drawn[1], base=2, axis=1) >= observed - 1e-12).sum())
    if beyond or not observed:
        return (1 + beyond) / (1 + CHANCES)
    return float(
        min(1 / (1 + CHANCES), stats.chi2_contingency(np.stack(counts)[:, pooled > 0], lambda_="log-likelihood").pvalue)
    )


def _counts(summary: Summary, values: Array) -> tuple[Array, Array]:
    reference = np.array(list((summary.counts or {}).values()))
    counts = np.bincount(values, minlength=len(reference))
    return np.pad(reference, (0, len(counts) - len(reference))), counts
