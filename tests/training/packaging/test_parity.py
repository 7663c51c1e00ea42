"""The largest difference between two answers."""

import numpy as np
import pytest

from training.packaging.parity import largest_difference


@pytest.mark.parametrize(
    ("values", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0),
        ([0.25], [0.5], 0.25),
        ([110.0], [100.0], 0.1),  # relative
        ([], [], 0),
        ([np.inf], [np.inf], 0),
        ([np.inf], [-np.inf], np.inf),
        ([np.nan], [1.0], np.inf),
        ([[1.0]], [1.0], np.inf),  # another shape
        (["a", "b"], ["a", "b"], 0),
        (["a", "b"], ["a", "c"], np.inf),
        ([2**53], [2**53 + 2], 2 / 2**53),
    ],
)
def test_it_is_relative_for_values_over_1_and_infinite_where_nothing_compares(
    values: list[object], expected: list[object], difference: float
) -> None:
    assert largest_difference(np.array(values), np.array(expected)) == pytest.approx(difference)


def test_nan_equals_itself_only_where_that_is_said() -> None:
    nan = np.array([np.nan])
    assert largest_difference(nan, nan) == np.inf
    assert largest_difference(nan, nan, equal_nan=True) == 0
