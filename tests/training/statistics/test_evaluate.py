from math import sqrt
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk

from handlers.contract import Array
from tests.support.documents import document, evaluated
from training.recipe import Split
from training.statistics.criteria import is_better
from training.statistics.decisive import Scoring
from training.statistics.evaluate import evaluate

LABELS = ("a", "b", "c")
# Four of six are right: b is once taken for c, c once for a.
TARGET = np.array([0, 0, 1, 1, 2, 2])
OUTPUT = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.6, 0.3, 0.1],
        [0.2, 0.7, 0.1],
        [0.1, 0.4, 0.5],
        [0.1, 0.2, 0.7],
        [0.5, 0.2, 0.3],
    ],
    np.float32,
)
CLASSES, TRUTH = Scoring("classification", LABELS), Split({}, TARGET)


def of_regression(output: list[float], target: list[float], **baselines: list[float]) -> dict[str, Any]:
    arrays = {name: np.array(values, np.float32) for name, values in baselines.items()}
    truth = Split({}, np.array(target, np.float32))
    return document(evaluate(Scoring("regression"), truth, np.array(output, np.float32), arrays))


def test_regression_metrics_are_those_computed_by_hand() -> None:
    evaluation = of_regression([1, 2, 5], [1, 4, 4])  # errors 0, -2, 1; the mean is 3, squares about it 4, 1, 1
    assert evaluation["rows"] == 3
    assert evaluation["primary"] == "rmse"
    assert evaluation["metrics"] == pytest.approx({"rmse": sqrt(5 / 3), "mae": 1.0, "r2": 1 - 5 / 6})
    assert "per_class" not in evaluation


def test_regression_metrics_agree_with_sklearn_on_large_values() -> None:
    random = np.random.default_rng(0)
    target = random.normal(1e4, 1, 5000).astype(np.float32)  # where sums of float32 would lose the digits
    output = (target + random.normal(0, 0.1, 5000)).astype(np.float32)
    metrics = document(evaluate(Scoring("regression"), Split({}, target), output, {}))["metrics"]
    truth, found = target.astype(np.float64), output.astype(np.float64)
    assert metrics["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, found), rel=1e-6)
    assert metrics["mae"] == pytest.approx(sk.mean_absolute_error(truth, found), rel=1e-6)
    assert metrics["r2"] == pytest.approx(sk.r2_score(truth, found), rel=1e-6)


def test_each_of_several_targets_is_measured_alone_and_the_first_has_the_plain_names() -> None:
    random = np.random.default_rng(0)
    target = random.normal(size=(200, 2)).astype(np.float32)
    output, mean = (target + random.normal(size=(200, 2))).astype(np.float32), np.zeros((200, 2), np.float32)
    scoring = Scoring("regression", targets=("delay", "fuel"))
    both = evaluate(scoring, Split({}, target, slices=np.array(["a", "b"] * 100)), output, {"mean": mean})
    assert both.primary == "rmse"
    for i, end in enumerate(["", " of fuel"]):
        alone = evaluate(Scoring("regression"), Split({}, target[:, i]), output[:, i], {"mean": mean[:, i]})
        assert alone.baselines is not None
        assert both.baselines is not None
        for name, value in alone.metrics.items():
            assert both.metrics[name + end] == value
            assert both.interval(name + end) == alone.interval(name)
            assert both.baselines["mean"][name + end] == alone.baselines["mean"][name]
    assert (both.gains or {}).keys() == {"mean"}
    assert both.slices.keys() == {"a", "b"}


def test_baselines_are_measured_like_the_model() -> None:
    evaluation = of_regression([1, 2, 3], [1, 2, 3], mean=[2, 2, 2], same=[1, 2, 3])
    assert evaluation["baselines"]["mean"] == pytest.approx({"rmse": sqrt(2 / 3), "mae": 2 / 3, "r2": 0.0})
    assert evaluation["baselines"]["same"] == evaluation["metrics"] == {"rmse": 0.0, "mae": 0.0, "r2": 1.0}


def test_classification_metrics_are_those_computed_by_hand() -> None:
    evaluation = document(evaluate(CLASSES, TRUTH, OUTPUT, {}))
    assert evaluation["primary"] == "accuracy"
    assert evaluation["metrics"] == pytest.approx(
        {
            "accuracy": 4 / 6,
            "precision": (2 / 3 + 1 + 1 / 2) / 3,
            "recall": (1 + 1 / 2 + 1 / 2) / 3,
            "f1": (4 / 5 + 2 / 3 + 1 / 2) / 3,
            # Of the pairs of a row of the class and another row, those in which the former is likelier.
            "auc": (8 / 8 + 8 / 8 + 7 / 8) / 3,
        }
    )


def test_each_class_has_its_own_row_of_metrics() -> None:
    rows = document(evaluate(CLASSES, TRUTH, OUTPUT, {}))["per_class"]
    assert [row["label"] for row in rows] == list(LABELS)
    assert [row["rows"] for row in rows] == [2, 2, 2]
    assert [row["precision"] for row in rows] == pytest.approx([2 / 3, 1, 1 / 2])
    assert [row["recall"] for row in rows] == pytest.approx([1, 1 / 2, 1 / 2])
    assert [row["f1"] for row in rows] == pytest.approx([4 / 5, 2 / 3, 1 / 2])
    assert [row["auc"] for row in rows] == pytest.approx([1, 1, 7 / 8])


def test_classification_metrics_agree_with_sklearn() -> None:
    random = np.random.default_rng(0)
    target = random.choice(3, 2000, p=[0.7, 0.2, 0.1])
    output = random.dirichlet([1, 1, 1], 2000).astype(np.float32)
    output[target == 1, 1] += 0.5
    output /= output.sum(1, keepdims=True)
    evaluation = document(evaluate(CLASSES, Split({}, target), output, {}))
    votes = output.argmax(1)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(target, votes, average="macro")
    expected = {
        "accuracy": sk.accuracy_score(target, votes),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auc": sk.roc_auc_score(target, output, multi_class="ovr", average="macro"),
    }
    assert evaluation["metrics"] == pytest.approx(expected, rel=1e-5)
    columns = sk.precision_recall_fscore_support(target, votes)
    for name, column in zip(("precision", "recall", "f1", "rows"), columns, strict=True):
        assert [row[name] for row in evaluation["per_class"]] == pytest.approx(column.tolist(), rel=1e-5)


def test_the_confusion_matrix_has_a_row_for_each_true_class() -> None:
    confusion = document(evaluate(CLASSES, TRUTH, OUTPUT, {}))["confusion"]
    assert confusion == [[2, 0, 0], [0, 1, 1], [1, 0, 1]]


def test_each_slice_is_measured_as_if_it_were_alone() -> None:
    slices = np.array(["x", "y", "x", "x", "y", "x"], object)
    baselines = {"always a": np.eye(3, dtype=np.float32)[[0] * 6]}
    evaluation = document(evaluate(CLASSES, Split({}, TARGET, slices=slices), OUTPUT, baselines))
    assert list(evaluation["slices"]) == ["x", "y"]
    x = slices == "x"
    measured = ("rows", "metrics", "baselines", "intervals", "gains")
    alone = document(evaluate(CLASSES, Split({}, TARGET[x]), OUTPUT[x], {"always a": baselines["always a"][x]}))
    assert evaluation["slices"]["x"] == {key: alone[key] for key in measured}
    assert evaluation["slices"]["y"]["rows"] == 2
    assert evaluation["slices"]["y"]["metrics"]["accuracy"] == 1.0
    assert evaluation["slices"]["y"]["metrics"]["auc"] == 1.0  # of the two classes that it has
    whole = document(evaluate(CLASSES, TRUTH, OUTPUT, baselines))
    assert {key: value for key, value in evaluation.items() if key != "slices"} == whole


def test_a_recipes_own_metrics_stand_beside_the_usual_ones_everywhere() -> None:
    def sure(output: Array, target: Array) -> dict[str, float]:
        return {"sure": float(output.max(1).mean())}

    slices = np.array(["x"] * 6, object)
    scoring = Scoring("classification", LABELS, own=sure)
    evaluation = document(evaluate(scoring, Split({}, TARGET, slices=slices), OUTPUT, {"same": OUTPUT}))
    expected = pytest.approx(3.8 / 6)
    for part in (evaluation, evaluation["slices"]["x"]):
        assert part["metrics"]["sure"] == part["baselines"]["same"]["sure"] == expected


def test_votes_of_a_baseline_are_measured_as_probabilities_of_one() -> None:
    votes = np.eye(3)[[0, 0, 0, 0, 0, 0]]  # always a, in float64 as NumPy makes it
    baseline = document(evaluate(CLASSES, TRUTH, OUTPUT, {"always a": votes}))["baselines"]["always a"]
    expected = {"accuracy": 1 / 3, "precision": 1 / 9, "recall": 1 / 3, "f1": 1 / 6, "auc": 0.5}
    assert baseline == pytest.approx(expected)


@pytest.mark.parametrize(
    ("task", "metric", "challenger", "champion", "better"),
    [
        ("regression", "rmse", 1.0, 2.0, True),
        ("regression", "rmse", 2.0, 2.0, True),
        ("regression", "rmse", 2.1, 2.0, False),
        ("regression", "rmse", float("nan"), 2.0, False),
        ("classification", "accuracy", 0.9, 0.8, True),
        ("classification", "accuracy", 0.8, 0.8, True),
        ("classification", "accuracy", 0.7, 0.8, False),
        ("classification", "accuracy", float("nan"), 0.8, False),
    ],
)
def test_better_is_less_error_or_more_accuracy_and_a_draw_counts(
    task: Any, metric: str, challenger: float, champion: float, better: bool
) -> None:
    assert is_better(task, evaluated({metric: challenger}), evaluated({metric: champion})) is better
