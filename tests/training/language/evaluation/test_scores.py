import math
from collections.abc import Sequence

import numpy as np
import pytest

from handlers.contract import Array
from handlers.contract.task_results import TaskResult, TaskScore
from training.language.evaluation.scores import (
    DocumentScores,
    Scale,
    difference,
    results_of,
    shown,
    task_table,
    worse,
)

RANDOM = np.random.default_rng(3)


def scored(
    sums: Array | Sequence[float], sizes: Array | None = None, scale: Scale = "mean", higher: bool = True
) -> DocumentScores:
    values = np.asarray(sums, np.float64)
    return DocumentScores("quiz", "acc", higher, values, np.ones(len(values)) if sizes is None else sizes, scale)


def test_a_mean_has_the_standard_error_of_a_mean() -> None:
    right = [1, 0, 1, 1, 0, 1, 1, 1]
    score = scored(right).score
    assert score.value == pytest.approx(0.75)
    assert score.stderr == pytest.approx(np.std(right, ddof=1) / math.sqrt(8))


def test_a_perplexity_is_of_all_words_together_and_its_error_is_that_of_many_draws() -> None:
    words = RANDOM.integers(5, 40, 400).astype(np.float64)
    logprobs = -words * RANDOM.normal(3, 0.5, 400)
    score = scored(logprobs, words, "perplexity", higher=False).score
    assert score.value == pytest.approx(math.exp(-logprobs.sum() / words.sum()))
    draws = RANDOM.integers(0, 400, (4000, 400))
    drawn = np.exp(-logprobs[draws].sum(1) / words[draws].sum(1))
    assert score.stderr == pytest.approx(drawn.std(), rel=0.06)


def test_bits_are_those_of_the_mean_log_likelihood() -> None:
    score = scored([-math.log(2) * 8], np.array([4.0]), "bits", higher=False).score
    assert score.value == pytest.approx(2.0)
    assert score.stderr is None


def test_the_error_of_a_difference_is_that_of_the_documents_own_differences() -> None:
    hard = RANDOM.normal(0, 10, 50)  # what both find hard cancels out
    change = difference(scored(hard), scored(hard + RANDOM.normal(-1, 0.5, 50)))
    assert change.value == pytest.approx(-1, abs=0.3)
    assert change.stderr
    assert change.stderr < 0.1
    assert change.is_worse(size=1)


@pytest.mark.parametrize(
    ("scale", "higher", "sign"), [("mean", True, 1), ("mean", False, -1), ("perplexity", False, 1)]
)
def test_worse_is_what_is_worse_for_the_metric(scale: Scale, higher: bool, sign: int) -> None:
    before = RANDOM.normal(0, 1, 40)
    lower, upper = (scored(before + shift, None, scale, higher) for shift in (-2 * sign, 2 * sign))
    middle = scored(before, None, scale, higher)
    assert len(worse([middle], [lower], ("a", "b"))) == 1
    assert worse([middle], [upper], ("a", "b")) == worse([middle], [middle], ("a", "b")) == []


def test_equal_models_hardly_ever_count_as_worse_in_any_of_many_metrics() -> None:
    refused = 0
    for _ in range(400):
        before = [scored((RANDOM.random(60) < 0.6).astype(float)) for _ in range(8)]
        after = [scored((RANDOM.random(60) < 0.6).astype(float)) for _ in range(8)]
        refused += bool(worse(before, after, ("a", "b")))
    assert refused < 0.1 * 400


def test_a_single_document_and_a_rounding_error_tell_nothing() -> None:
    assert worse([scored([1.0])], [scored([0.0])], ("a", "b")) == []
    logprobs = RANDOM.normal(-50, 5, 30)
    rounded = scored(logprobs * (1 + 1e-6), None, "perplexity", higher=False)
    assert worse([scored(logprobs, None, "perplexity", higher=False)], [rounded], ("a", "b")) == []


def test_a_sentence_tells_both_scores_with_their_errors() -> None:
    (sentence,) = worse([scored([1.0] * 20)], [scored([0.0] * 10 + [1.0] * 10)], ("the champion 1.0", "this version"))
    assert sentence == (
        "acc of the task quiz is 0.5000 ± 0.1147 with this version and 1.0000 ± 0.0000 with the champion 1.0, worse "
        "beyond chance on the same 20 documents"
    )


def test_a_table_has_a_column_for_each_model_in_order() -> None:
    results = results_of({"served": [scored([1.0, 0.0])], "float32": [scored([1.0, 1.0])]}, "abc")
    assert results[0].scores.keys() == {"served", "float32"}
    table = task_table(results)
    assert table.head == ("task", "metric", "better is", "documents", "float32", "as served")
    assert table.rows == [("quiz", "acc", "higher", "2", "1.0000 ± 0.0000", "0.5000 ± 0.5000")]
    assert task_table([TaskResult("quiz", "acc", 1, scores={"served": TaskScore(None, None)})]).rows[0][-1] == shown(
        TaskScore(None, None)
    )
