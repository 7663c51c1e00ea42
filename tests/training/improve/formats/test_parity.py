import numpy as np
import pytest

from training.improve.formats.parity import Difference, compare


def test_a_classification_is_compared_by_probabilities_and_labels() -> None:
    expected = np.array([[0.9, 0.1], [0.4, 0.6], [0.51, 0.49], [0.2, 0.8]], np.float32)
    found = expected.copy()
    found[2] = [0.49, 0.51]
    difference = compare("classification", expected, found)
    assert difference == Difference(max_abs_difference=difference.max_abs_difference, label_agreement=0.75)
    assert difference.max_abs_difference == pytest.approx(0.02, rel=1e-4)
    assert not difference.is_rounding
    assert compare("classification", expected, expected + np.float32(5e-5)).is_rounding


def test_a_regression_is_compared_relative_to_its_values() -> None:
    expected = np.array([0, 100, 300, 1200], np.float32)  # their mean is 400
    found = expected + np.array([0.02, 0, 0, 0.12], np.float32)
    difference = compare("regression", expected, found)
    assert difference.max_abs_difference == pytest.approx(0.12, rel=1e-3)
    assert difference.max_relative_difference == pytest.approx(0.12 / 1200, rel=1e-3)
    near_nothing = compare("regression", expected, expected + np.array([0.2, 0, 0, 0], np.float32))
    assert near_nothing.max_relative_difference == pytest.approx(0.2 / 400, rel=1e-3)


def test_an_answer_that_is_no_number_does_not_agree() -> None:
    for task, expected in (("regression", np.ones(2)), ("classification", np.eye(2))):
        assert not compare(task, expected, np.full_like(expected, np.nan)).is_rounding  # type: ignore[arg-type]
