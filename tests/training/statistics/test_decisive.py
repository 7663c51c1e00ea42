"""The metric that decides, against scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from handlers.contract import Array
from handlers.contract.model_card import Evaluation
from training.recipe import Split
from training.statistics.criteria import Criterion, criterion_of, deciding, is_better
from training.statistics.decisive import Scoring, score, value
from training.statistics.evaluate import evaluate

LABELS = ("no", "yes")


def drawn(rows: int = 400) -> tuple[Array, Array]:
    chance = np.random.default_rng(0)
    target = (chance.uniform(size=rows) < 0.2).astype(np.int64)
    share = np.round(1 / (1 + np.exp(1 - 2 * target - chance.normal(size=rows))), 2)  # some are equal
    return np.stack([1 - share, share], 1), target


def test_metrics_are_those_of_scikit_learn() -> None:
    output, target = drawn()
    answer = output.argmax(1)
    assert value(Criterion("auc", "yes"), LABELS, output, target) == pytest.approx(roc_auc_score(target, output[:, 1]))
    assert value(Criterion("f1", "yes"), LABELS, output, target) == pytest.approx(f1_score(target, answer))
    assert value(Criterion("f1"), LABELS, output, target) == pytest.approx(f1_score(target, answer, average="macro"))
    precision, recall, _ = precision_recall_curve(target, output[:, 1])
    at = Criterion("recall_at_precision", "yes", precision=0.6)
    assert value(at, LABELS, output, target) == pytest.approx(recall[precision >= 0.6].max())
    assert at.name == "recall of yes at precision 0.6"


def test_a_row_that_counts_twice_is_as_two_rows() -> None:
    output, target = drawn(50)
    weights = np.random.default_rng(1).integers(0, 3, (1, 50))
    rows = np.repeat(np.arange(50), weights[0])
    for by in (Criterion("auc"), Criterion("recall", "yes"), Criterion("recall_at_precision", "yes", 0.5)):
        assert score(by, LABELS, output, target, weights)[0] == pytest.approx(
            value(by, LABELS, output[rows], target[rows])
        )


def test_what_rows_do_not_tell_is_no_number() -> None:
    output, target = drawn(20)
    assert np.isnan(value(Criterion("auc", "yes"), LABELS, output, np.zeros(20, np.int64)))
    assert np.isnan(value(Criterion("recall", "yes"), LABELS, output, np.zeros(20, np.int64)))


def test_an_evaluation_names_what_decides_and_the_promotion_goes_by_it() -> None:
    output, target = drawn()
    by = Criterion("cost", costs=((0.0, 1.0), (20.0, 0.0)))
    careful, never = (output, np.tile([1.0, 0.0], (len(target), 1)))
    scoring, truth = Scoring("classification", LABELS, by), Split({}, target)
    good, bad = (evaluate(scoring, truth, answers, {"never": never}) for answers in (careful, never))
    assert good.primary == "cost"
    assert good.gains
    assert good.gains["never"].value == pytest.approx(deciding("classification", bad) - good.metrics["cost"])  # type: ignore[operator]
    assert criterion_of("classification", good) == by
    assert deciding("classification", bad) == pytest.approx(20 * target.mean())
    assert is_better("classification", good, bad)
    assert not is_better("classification", bad, good)
    assert criterion_of("classification", Evaluation()) == Criterion("accuracy")


@pytest.mark.parametrize(
    "wrong",
    [{"metric": "luck"}, {"metric": "recall_at_precision"}, {"metric": "cost"}, {"metric": "auc", "costs": ((1.0,),)}],
)
def test_a_criterion_that_cannot_be_measured_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"decides|needs"):
        Criterion(**wrong)  # type: ignore[arg-type]


def test_a_regression_is_decided_by_its_errors() -> None:
    output, target = np.array([1.0, 2.0, 5.0], np.float32), np.array([1.0, 4.0, 4.0], np.float32)
    assert Scoring("regression").value(output, target) == pytest.approx((5 / 3) ** 0.5)
    assert Scoring("regression", decides=Criterion("mae")).value(output, target) == pytest.approx(1)


@pytest.mark.parametrize(
    ("task", "by", "why"),
    [
        ("regression", Criterion("auc"), "auc cannot decide between versions of a regression"),
        ("classification", Criterion("mae"), "mae cannot decide between versions of a classification"),
        ("classification", Criterion("auc", "perhaps"), "no label 'perhaps' for auc of perhaps; there are no, yes"),
    ],
)
def test_a_metric_that_does_not_fit_the_model_is_refused(task: Any, by: Criterion, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Scoring(task, LABELS, by)


@pytest.mark.parametrize(
    ("by", "tells"),
    [
        (Criterion("auc", "yes"), False),
        (Criterion("recall", "yes"), False),
        (Criterion("recall_at_precision", "yes", 0.5), False),
        (Criterion("cost", costs=((0.0, 1.0), (1.0, 0.0))), True),
        (Criterion("accuracy"), True),
    ],
)
def test_rows_without_the_event_tell_only_what_needs_none(by: Criterion, tells: bool) -> None:
    scoring, none = Scoring("classification", LABELS, by), np.zeros(20, np.int64)
    scoring.require(np.array([0, 1]), "held-out")
    if tells:
        scoring.require(none, "held-out")
    else:
        with pytest.raises(ValueError, match=f"the 20 held-out rows do not tell the metric that decides, {by.name}"):
            scoring.require(none, "held-out")


def test_only_what_a_recipe_named_has_a_key() -> None:
    assert Scoring("classification", LABELS).key == Scoring("classification", LABELS, Criterion("accuracy")).key == ""
    keys = {Scoring("classification", LABELS, by).key for by in (Criterion("auc"), Criterion("auc", "yes"))}
    assert len(keys) == 2
    assert "" not in keys
