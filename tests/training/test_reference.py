from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract import TensorSpec
from tests.training.conftest import load
from tests.training.quadrants import Quadrants
from training.pipeline import Result
from training.recipe import Data, Split
from training.reference import QUANTILES, reference

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
    summary = reference(contract, data, -data.train.inputs["number"])
    assert summary["rows"] == ROWS
    return {**summary["inputs"], "output": summary["output"]}


def test_numbers_are_summarised_by_evenly_spaced_quantiles_of_the_training_rows(found: dict[str, Any]) -> None:
    assert QUANTILES == 257
    assert found["number"] == {"quantiles": list(range(0, ROWS, 4))}
    assert found["output"] == {"quantiles": list(range(-ROWS + 1, 1, 4))}


def test_categories_are_counted_and_one_without_rows_too(found: dict[str, Any]) -> None:
    assert found["category"] == {"counts": {"even": 513, "odd": 512, "neither": 0}}


def test_a_tensor_of_several_values_is_summarised_by_the_mean_of_each_row(found: dict[str, Any]) -> None:
    assert found["picture"] == {"quantiles": list(range(1, ROWS + 1, 4))}


def test_quantiles_are_rounded_to_six_digits(data: Data, linear: Result) -> None:
    train = replace(data.train, inputs={"x": np.full(ROWS, 1 / 3)})
    contract = msgspec.structs.replace(linear.contract, inputs=(TensorSpec("x", "FP32"),))
    assert reference(contract, replace(data, train=train), data.train.target)["inputs"]["x"]["quantiles"][0] == 0.333333


def test_the_output_of_a_classification_is_the_count_of_each_label(quadrants: Result) -> None:
    output = np.eye(4)[[0, 0, 0, 2]]
    counts = reference(quadrants.contract, load(Quadrants()), output)["output"]
    assert counts == {"counts": {"NE": 3, "NW": 0, "SW": 1, "SE": 0}}


def test_a_trained_models_contract_has_the_reference_of_its_own_data(quadrants: Result) -> None:
    east = load(Quadrants()).train.inputs["east"]
    summary = quadrants.contract.reference
    assert summary["rows"] == 400
    assert summary["inputs"].keys() == {"east", "north"}
    quantiles = summary["inputs"]["east"]["quantiles"]
    assert (quantiles[0], quantiles[-1]) == pytest.approx((east.min(), east.max()), rel=1e-5)
    assert quantiles[128] == pytest.approx(np.median(east), rel=1e-5)
    assert sum(summary["output"]["counts"].values()) == 400
