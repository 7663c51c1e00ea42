"""The metric that decides, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from handlers.contract import Array
from handlers.contract.model_card import Evaluation
from training.evaluate import evaluate
from training.statistics.criteria import Criterion, criterion_of, deciding, is_better
from training.statistics.decisive import score, value

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
    good, bad = (evaluate("classification", LABELS, one, target, {}, by=by) for one in (careful, never))
    assert good.primary == "cost"
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
