"""Metrics of labelled predictions, and their intervals."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sklearn import metrics as sk

from monitoring.live.quality import Metric, measure
from monitoring.store.records import Labelled
from tests.support.monitoring.drifting import LABELS, NOW, classification, predictions, regression, rows

AIR, CLOTHES = regression(), classification()


def test_a_regression_is_measured_by_rmse_mae_and_bias() -> None:
    labelled = rows(AIR, 300, error=0.5)
    measured = measure(AIR, labelled).all
    assert measured is not None
    error = np.array([one.prediction.output - float(str(one.label)) for one in labelled])
    values = {name: metric.value for name, metric in measured.metrics.items()}
    assert values == pytest.approx(
        {"rmse": (error**2).mean() ** 0.5, "mae": np.abs(error).mean(), "bias": error.mean()}
    )
    assert measured.rows == 300


def test_a_classification_is_measured_as_scikit_learn_does() -> None:
    labelled = rows(CLOTHES, 500)
    measured = measure(CLOTHES, labelled).all
    assert measured is not None
    truth = [LABELS.index(str(one.label)) for one in labelled]
    answers = [one.output for one in predictions(labelled)]
    voted = [LABELS.index(one["label"]) for one in answers]
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, voted, average="macro")
    assert {name: metric.value for name, metric in measured.metrics.items()} == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, voted),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "auc": sk.roc_auc_score(truth, [one["probabilities"][1] for one in answers]),
        }
    )


def test_intervals_hold_the_value_and_shrink_with_the_rows() -> None:
    for contract, name in ((AIR, "rmse"), (AIR, "bias"), (CLOTHES, "accuracy"), (CLOTHES, "auc")):
        few, many = (measure(contract, rows(contract, count)).all for count in (100, 5000))
        assert few is not None
        assert many is not None
        for one in (few, many):
            assert one.metrics[name].low < one.metrics[name].value < one.metrics[name].high
        assert _width(many.metrics[name]) < _width(few.metrics[name]) / 3


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(100):
        measured = measure(AIR, rows(AIR, 400, seed)).all
        assert measured is not None
        held += measured.metrics["rmse"].low <= 1 <= measured.metrics["rmse"].high
    assert 85 <= held <= 99


def test_intervals_are_wide_where_neighbours_err_alike() -> None:
    labelled = rows(AIR, 2000)
    wind = np.repeat(np.random.default_rng(0).normal(size=20), 100)  # of each hundred rows
    gusty = [replace(one, label=float(str(one.label)) + 2 * gust) for one, gust in zip(labelled, wind, strict=True)]
    assert _width(_bias(gusty)) > 2 * _width(_bias(labelled))
    assert _width(_bias(gusty)) == _width(_bias(gusty[::-1]))  # time orders them, not the caller


def test_each_version_is_measured_and_all_together() -> None:
    found = measure(AIR, rows(AIR, 100) + rows(regression("1.1"), 50, seed=2, error=3))
    assert {version: one.rows for version, one in found.versions.items()} == {"1.0": 100, "1.1": 50}
    assert found.all is not None
    assert found.all.rows == 150
    biases = [found.versions[version].metrics["bias"].value for version in ("1.0", "1.1")]
    assert biases == pytest.approx([0, 3], abs=0.4)


def test_the_delay_of_labels_and_the_times_of_the_window_are_told() -> None:
    labelled = [
        replace(one, labelled=one.prediction.time + timedelta(seconds=i)) for i, one in enumerate(rows(AIR, 101))
    ]
    measured = measure(AIR, labelled).all
    assert measured is not None
    assert (measured.delay_seconds, measured.delay_longest_seconds) == (50, 95)
    assert (measured.since, measured.until) == (NOW - timedelta(seconds=101), NOW - timedelta(seconds=1))


def test_without_labels_nothing_is_known() -> None:
    found = measure(AIR, [])
    assert (found.all, found.versions) == (None, {})


def test_one_row_has_a_value_and_hardly_tells_a_share() -> None:
    measured = measure(CLOTHES, rows(CLOTHES, 1)).all
    assert measured is not None
    accuracy = measured.metrics["accuracy"]
    assert (accuracy.value, accuracy.high) == (1, 1)
    assert accuracy.low == pytest.approx(0.2065, abs=1e-4)  # Wilson's interval of one right answer
    assert "auc" not in measured.metrics  # one class alone has none


def _bias(labelled: list[Labelled]) -> Metric:
    measured = measure(AIR, labelled).all
    assert measured is not None
    return measured.metrics["bias"]


def _width(metric: Metric) -> float:
    return metric.high - metric.low


def test_two_hundred_right_answers_do_not_promise_that_all_are() -> None:
    right = [replace(one, label=one.prediction.output["label"]) for one in rows(CLOTHES, 200)]
    measured = measure(CLOTHES, right).all
    assert measured is not None
    accuracy = measured.metrics["accuracy"]
    assert (accuracy.value, accuracy.high) == (1, 1)
    assert accuracy.low == pytest.approx(0.9812, abs=1e-4)
    for name in ("precision", "recall", "f1"):
        assert 0.95 < measured.metrics[name].low < 0.99
