"""What is promised of a classification and of a regression, from what the graph computes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.formats.answers import check_top_k, output_arrays, row_answers
from handlers.message import InputError
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, PICTURES

PROBABILITIES = np.array([[0.1, 0.4, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]], np.float32)
OUTPUTS = {"probabilities": PROBABILITIES}


def test_a_classification_has_label_index_and_probability_of_the_likeliest() -> None:
    assert row_answers(PICTURES, OUTPUTS, 1) == [
        {"label": "boot", "index": 1, "probability": np.float32(0.4)},
        {"label": "bag", "index": 0, "probability": np.float32(0.25)},
    ]


def test_with_more_classes_the_likeliest_stays_where_it_was_and_leads_the_list() -> None:
    first, second = row_answers(PICTURES, OUTPUTS, 3)
    assert {key: first[key] for key in ("label", "index", "probability")} == first["top_k"][0]
    assert [one["label"] for one in first["top_k"]] == ["boot", "coat", "shirt"]
    assert [one["index"] for one in second["top_k"]] == [0, 1, 2]  # equal ones in the order of the labels


def test_the_outputs_are_those_of_the_contract_with_their_types() -> None:
    arrays = output_arrays(PICTURES, OUTPUTS, 2)
    assert list(arrays) == [spec.name for spec in PICTURES.outputs]
    assert wire.same(arrays["label"], np.array([["boot", "coat"], ["bag", "boot"]], object))
    assert wire.same(arrays["index"], np.array([[1, 2], [0, 1]]))
    assert wire.same(arrays["probability"], PROBABILITIES[[[0], [1]], [[1, 2], [0, 1]]])
    assert arrays["probabilities"] is PROBABILITIES


def test_a_regressions_values_pass_as_they_are() -> None:
    values = np.array([1.5, -2], np.float32)
    assert wire.same(row_answers(LINE, {"y": values}, 1), values)
    assert wire.same(output_arrays(LINE, {"y": values}, 1)["y"], values)


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 4))
def test_the_classes_are_ranked_by_probability(rows: list[list[float]], top_k: int) -> None:
    arrays = output_arrays(PICTURES, {"probabilities": np.array(rows, np.float32)}, top_k)
    for row, index, probability in zip(rows, arrays["index"].tolist(), arrays["probability"].tolist(), strict=True):
        assert index == sorted(range(4), key=lambda i: -row[i])[:top_k]
        assert probability == [row[i] for i in index]


@pytest.mark.parametrize(("top_k", "fits"), [(0, False), (1, True), (4, True), (5, False)])
def test_a_top_k_is_from_one_to_the_number_of_labels(top_k: int, fits: bool) -> None:
    if fits:
        assert check_top_k(PICTURES, top_k, "here") == top_k
        return
    with pytest.raises(InputError, match=f"top_k is {top_k}") as raised:
        check_top_k(PICTURES, top_k, "here")
    assert (raised.value.code, raised.value.path) == ("invalid_parameter", "here")
