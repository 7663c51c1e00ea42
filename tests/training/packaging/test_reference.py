from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract import Array, TensorSpec
from tests.support.documents import document
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import load
from training.packaging.reference import reference
from training.packaging.registration import Result
from training.recipe import Data, Split
from training.statistics.distribution import QUANTILES

ROWS = 1025  # so that each of the 257 quantiles falls onto a row


@pytest.fixture
def data() -> Data:
    """Numbers from 0 to 1024 in disorder, a category, and pictures of two pixels."""
    number = np.random.default_rng(0).permutation(ROWS).astype(np.float32)
    category = np.arange(ROWS) % 2
    picture = np.stack([number, number + 2], 1)
    inputs = (
        TensorSpec("number", "FP32"),
        TensorSpec("category", "BYTES", categories=("even", "odd", "neither")),
        TensorSpec("picture", "FP32", (-1, 2)),
    )
    train = Split({"number": number, "category": category, "picture": picture}, number)
    test = Split({name: values[:3] + 1e6 for name, values in train.inputs.items()}, number[:3])
    return Data(train, test, inputs, "")


@pytest.fixture
def found(data: Data, linear: Result) -> dict[str, Any]:
    contract = msgspec.structs.replace(linear.contract, inputs=data.inputs)
    summary = document(reference(contract, data, -data.train.inputs["number"], data.test.target + [1, 2, 3]))
    assert summary["rows"] == ROWS
    return {**summary["inputs"], "output": summary["output"], "errors": summary["errors"]}


def test_numbers_are_summarised_by_evenly_spaced_quantiles_of_the_training_rows(found: dict[str, Any]) -> None:
    assert QUANTILES == 257
    assert found["number"]["quantiles"] == list(range(0, ROWS, 4))
    assert found["output"]["quantiles"] == list(range(-ROWS + 1, 1, 4))


def test_categories_are_counted_and_one_without_rows_too(found: dict[str, Any]) -> None:
    assert found["category"]["counts"] == {"even": 513, "odd": 512, "neither": 0}


def test_a_tensor_of_several_values_is_summarised_by_the_mean_of_each_row(found: dict[str, Any]) -> None:
    assert found["picture"]["quantiles"] == list(range(1, ROWS + 1, 4))


def test_errors_are_those_of_the_held_out_rows_where_nothing_tells_the_time(found: dict[str, Any]) -> None:
    quantiles = found["errors"]["quantiles"]
    assert (quantiles[0], quantiles[128], quantiles[-1]) == (1, 2, 3)


def test_each_summary_knows_what_is_usual_where_there_are_rows_enough(found: dict[str, Any]) -> None:
    assert {one["rows"] for one in found["number"]["usual"]["entries"]} == {100, 200, 500}
    assert "usual" not in found["errors"]  # three rows


def test_rows_with_times_are_all_known_in_order_of_time_the_held_out_ones_too(data: Data, linear: Result) -> None:
    contract = msgspec.structs.replace(linear.contract, inputs=(TensorSpec("x", "FP32"),))
    level = np.repeat([0.0, 10.0], 500).astype(np.float32)  # the world changes once, in the middle
    order = np.random.default_rng(0).permutation(1000)
    hours = 3600 * np.arange(1000)
    parts = [Split({"x": level[rows]}, level[rows], time=hours[rows]) for rows in (order[:800], order[800:])]
    summary = document(
        reference(contract, replace(data, train=parts[0], test=parts[1]), *(one.target + 1 for one in parts))
    )
    assert summary["rows"] == 1000
    assert summary["inputs"]["x"]["quantiles"][100] == 0
    usual = summary["inputs"]["x"]["usual"]["entries"][0]
    assert usual["mean"] > 0.6  # a stretch holds one half's rows alone
    assert (usual["span"], usual["rows"]) == (96, 100)
    assert summary["errors"]["quantiles"] == [1] * QUANTILES


def test_quantiles_are_rounded_to_six_digits(data: Data, linear: Result) -> None:
    train = replace(data.train, inputs={"x": np.full(ROWS, 1 / 3)})
    contract = msgspec.structs.replace(linear.contract, inputs=(TensorSpec("x", "FP32"),))
    found = document(reference(contract, replace(data, train=train), data.train.target, data.test.target))
    assert found["inputs"]["x"]["quantiles"][0] == 0.333333


def test_a_classification_is_summarised_by_the_counts_of_each_label_and_of_right_and_wrong(quadrants: Result) -> None:
    data = load(Quadrants())
    output, held_out = np.eye(4)[np.arange(len(data.train)) % 2], np.eye(4)[data.test.target]
    found = document(reference(quadrants.contract, data, output, np.roll(held_out, 1, axis=1)))
    assert found["output"]["counts"] == {"NE": 200, "NW": 200, "SW": 0, "SE": 0}
    assert found["errors"]["counts"] == {"right": 0, "wrong": len(data.test)}


def test_a_trained_models_contract_has_the_reference_of_its_own_data(quadrants: Result) -> None:
    east = load(Quadrants()).train.inputs["east"]
    summary = document(quadrants.contract.reference)
    assert summary["rows"] == 400
    assert summary["inputs"].keys() == {"east", "north"}
    quantiles = summary["inputs"]["east"]["quantiles"]
    assert (quantiles[0], quantiles[-1]) == pytest.approx((east.min(), east.max()), rel=1e-5)
    assert quantiles[128] == pytest.approx(np.median(east), rel=1e-5)
    assert sum(summary["output"]["counts"].values()) == 400


def test_of_a_nullable_input_the_present_values_are_summarised_and_the_missing_ones_counted(linear: Result) -> None:
    inputs = (
        TensorSpec("number", "FP32", nullable=True),
        TensorSpec("category", "BYTES", categories=("even", "odd"), nullable=True, default="odd"),
        TensorSpec("empty", "FP32", nullable=True),
        TensorSpec("note", "BYTES", nullable=True, default="none"),
    )
    number, category = np.arange(ROWS + 300, dtype=np.float32), np.arange(ROWS + 300) % 2
    number[ROWS:], category[ROWS:] = np.nan, -1
    empty = np.full(ROWS + 300, np.nan, np.float32)
    notes = np.array([*("x" * (i % 7 + 1) for i in range(ROWS)), *[None] * 300], object)
    given: dict[str, Array] = {"number": number, "category": category, "empty": empty, "note": notes}
    split = Split(given, np.zeros(ROWS + 300), texts={"note": notes}).filled(inputs)
    contract = msgspec.structs.replace(linear.contract, inputs=inputs)
    data = Data(split, split, inputs, "")
    found = document(reference(contract, data, split.target, split.target))["inputs"]
    assert found["number"]["quantiles"] == list(range(0, ROWS, 4))
    assert found["category"]["counts"] == {"even": 513, "odd": 512}
    assert (
        found["category"]["missing"]["counts"]
        == found["number"]["missing"]["counts"]
        == found["note"]["missing"]["counts"]
        == {
            "present": ROWS,
            "missing": 300,
        }
    )
    assert (found["note"]["quantiles"][0], found["note"]["quantiles"][-1]) == (1, 7)  # characters
    assert found["number"]["missing"]["usual"]["known"] == ROWS + 300
    assert found["empty"].keys() == {"missing"}
