from dataclasses import replace

import numpy as np
import pytest
import torch

from handlers.contract import TensorSpec
from tests.support.training.quadrants import Quadrants
from training.recipe import Hyperparameters, Split, to_tensors


def test_the_head_of_a_split_has_its_first_rows_and_weights() -> None:
    texts = np.array(list("abcde"), object)
    split = Split({"x": np.arange(5)}, 2 * np.arange(5), np.arange(5) / 5, texts, {"x": texts})
    head = split.head(2)
    assert head.slices is not None
    assert head.slices.tolist() == head.texts["x"].tolist() == ["a", "b"]
    assert len(head) == 2
    assert head.inputs["x"].tolist() == [0, 1]
    assert head.target.tolist() == [0, 2]
    assert head.weight is not None
    assert head.weight.tolist() == [0.0, 0.2]
    assert len(split.head(9)) == 5
    assert Split({"x": np.arange(5)}, np.arange(5)).head(2).weight is None


def test_tensors_are_made_without_a_copy_where_the_array_can_be_written() -> None:
    x = np.arange(3, dtype=np.float32)
    (tensor,) = to_tensors(Split({"x": x}, x))
    tensor[0] = 7
    assert x[0] == 7


def test_a_read_only_array_is_copied() -> None:
    x = np.frombuffer(b"abc", np.uint8)
    (tensor,) = to_tensors(Split({"x": x}, x))  # torch would warn, and a warning is an error here
    tensor[0] = 0
    assert x.tobytes() == b"abc"


def test_tensors_come_in_the_order_of_the_inputs() -> None:
    z = np.zeros(1)
    assert [t.item() for t in to_tensors(Split({"b": z + 1, "a": z + 2}, z))] == [1.0, 2.0]


def test_label_smoothing_raises_the_loss_of_a_sure_answer() -> None:
    recipe = Quadrants()
    logits, target = torch.tensor([[9.0, 0.0, 0.0, 0.0]]), torch.tensor([0])
    plain = recipe.loss(logits, target, Hyperparameters(1, 1, 0.1))
    smooth = recipe.loss(logits, target, Hyperparameters(1, 1, 0.1, label_smoothing=0.1))
    assert plain.item() == pytest.approx(np.log(1 + 3 * np.exp(-9)), rel=1e-3)
    assert smooth.item() == pytest.approx(plain.item() + 0.1 * 9 * 3 / 4, rel=1e-3)


def test_rows_with_and_without_weights_combine() -> None:
    plain = Split({"x": np.arange(2)}, np.arange(2))
    weighted = Split({"x": np.arange(2, 4)}, np.arange(2, 4), np.array([0.25, 0.5], np.float32))
    for first, second, weights in [(plain, weighted, [1, 1, 0.25, 0.5]), (weighted, plain, [0.25, 0.5, 1, 1])]:
        joined = first.followed_by(second)
        assert joined.weight is not None
        assert joined.weight.tolist() == weights
        assert joined.weight.dtype == np.float32
        assert joined.inputs["x"].tolist() == joined.target.tolist() == [*first.target, *second.target]
    assert plain.followed_by(plain).weight is None


def test_rows_without_times_count_as_old_as_the_oldest_that_follow_in_no_order() -> None:
    undated = Split({"x": np.arange(100)}, np.arange(100))
    joined = undated.followed_by(Split({"x": np.arange(2)}, np.arange(2), time=np.array([70, 90])))
    assert joined.time is not None
    assert joined.time.tolist() == [70] * 101 + [90]
    assert sorted(joined.target[:100]) == undated.target.tolist() != joined.target[:100].tolist()
    np.testing.assert_array_equal(joined.inputs["x"], joined.target)
    assert joined.target[100:].tolist() == [0, 1]


INPUTS = (
    TensorSpec("age", "FP32", nullable=True),
    TensorSpec("income", "FP32", nullable=True, default=-1.0),
    TensorSpec("city", "BYTES", categories=("Bonn", "Ulm"), nullable=True, default="Ulm"),
)


def lacking() -> Split:
    """Three rows, of which the second lacks every value."""
    numbers = np.array([1, np.nan, 3], np.float32)
    return Split({"age": numbers, "income": numbers, "city": np.array([0, -1, 1])}, np.arange(3)).filled(INPUTS)


def test_defaults_are_learned_and_what_was_missing_is_known() -> None:
    split = lacking()
    assert np.array_equal(split.inputs["age"], [1, np.nan, 3], equal_nan=True)  # the network gets NaN
    assert (split.inputs["income"].tolist(), split.inputs["city"].tolist()) == ([1, -1, 3], [0, 1, 1])
    assert np.array_equal(split.sent["income"], [1, np.nan, 3], equal_nan=True)
    assert split.sent["city"].tolist() == [0, -1, 1]
    assert split.row(INPUTS, 1) == {"age": None, "income": None, "city": None}
    assert split.row(INPUTS, 2) == {"age": 3, "income": 3, "city": "Ulm"}


def test_what_was_missing_stays_known_in_parts_and_together() -> None:
    plain = Split(
        {"age": np.ones(1, np.float32), "income": np.ones(1, np.float32), "city": np.zeros(1, int)}, np.ones(1)
    )
    for joined in (lacking().followed_by(plain), plain.followed_by(lacking()).part(np.array([1, 2, 3, 0]))):
        assert joined.sent["city"].tolist() == [0, -1, 1, 0]
        assert [joined.row(INPUTS, row)["income"] for row in range(4)] == [1, None, 3, 1]


def test_a_missing_text_is_the_default_and_is_known_as_missing() -> None:
    spec = TensorSpec("note", "BYTES", nullable=True, default="none")
    strings = np.array(["a", None], object)
    split = Split({"note": strings}, np.arange(2), texts={"note": strings}).filled([spec])
    assert split.inputs["note"].tolist() == split.texts["note"].tolist() == ["a", "none"]
    assert split.sent["note"].tolist() == split.sent_texts["note"].tolist() == ["a", None]
    assert [split.row([spec], row) for row in range(2)] == [{"note": "a"}, {"note": None}]
    tokens = np.ones((2, 3), np.int64)
    assert replace(split, inputs={"note": tokens}).sent["note"] is tokens
