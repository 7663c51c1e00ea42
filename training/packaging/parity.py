"""Parity: how far a graph's answers may be from those of the model that it was made of."""

import numpy as np

from handlers.contract import Array

TOLERANCE = 1e-4  # largest difference; FP32 rounds a large value more coarsely


def largest_difference(values: Array, expected: Array, equal_nan: bool = False, unit: float = 1.0) -> float:
    """Return the largest difference, relative for values over 1; infinite for other shapes or strings, and for NaN.

    Args:
        equal_nan: whether NaN differs only from other values.
        unit: that the difference of a smaller value is divided by.
    """
    if values.shape != expected.shape:
        return np.inf
    if values.dtype.kind not in "fiub":
        return 0.0 if (values == expected).all() else np.inf
    a, b = values.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b) & equal_nan)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        gaps = np.where(same, 0, np.abs(a - b) / np.maximum(unit, np.abs(b)))
    return float(np.nan_to_num(gaps, nan=np.inf).max(initial=0.0))
