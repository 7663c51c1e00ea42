"""What is written from a contract is what the decoders read: each format gives the same tensors back."""

import json
from typing import Any

import numpy as np
import pytest

from handlers.contract import Array, Example, ModelContract, TensorSpec
from handlers.contract.model_card import Evaluation, Lineage, Reference
from handlers.formats import requests
from handlers.formats.codec import Codec
from handlers.message import JSON, NPY, Request

MANY = (
    TensorSpec("size", "FP32", range=(0, 10)),
    TensorSpec("count", "INT64"),
    TensorSpec("open", "BOOL"),
    TensorSpec("city", "BYTES", categories=("Rome", "Zürich")),
    TensorSpec("pair", "FP64", (-1, 2)),
)
TENSORS = {
    "size": np.array([0.1, 10], np.float32),
    "count": np.array([3, -4]),
    "open": np.array([True, False]),
    "city": np.array(["Zürich", "Rome"], object),
    "pair": np.array([[1.5, 2], [3, 4]]),
}
PICTURE = (TensorSpec("image", "UINT8", (-1, 2, 3)),)
PICTURES = {"image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)}


def contract_of(inputs: tuple[TensorSpec, ...]) -> ModelContract:
    outputs = (TensorSpec("y", "FP32"),)
    return ModelContract(
        "m", "1.0", "regression", inputs, outputs, (), Example({}, {}), Reference(), Evaluation(), Lineage()
    )


def decoded(contract: ModelContract, body: bytes, headers: dict[str, str], path: str = "") -> dict[str, Any]:
    codec = Codec(contract, 10)
    lower = {name.lower(): value for name, value in headers.items()}
    result = codec.decode(Request(body, lower | ({"url_path": path} if path else {})))
    return {name: values.tolist() for name, values in codec.stack([result]).items()}


@pytest.mark.parametrize(("inputs", "tensors"), [(MANY, TENSORS), (PICTURE, PICTURES)])
def test_every_format_gives_the_same_tensors(inputs: tuple[TensorSpec, ...], tensors: dict[str, Array]) -> None:
    contract = contract_of(inputs)
    expected = {name: values.tolist() for name, values in tensors.items()}
    if "city" in expected:
        expected["city"] = [1, 0]  # the graph takes the index
    rows = requests.rows_of(contract, tensors)
    v1 = requests.to_json(requests.v1_request(contract, rows))
    v2 = requests.to_json(requests.v2_request(contract, tensors))
    assert decoded(contract, v1, {"content-type": JSON}) == expected
    assert decoded(contract, v2, {"content-type": JSON}) == expected
    assert decoded(contract, *requests.v2_binary_request(contract, tensors)) == expected
    assert decoded(contract, requests.npy_request(tensors), {"content-type": NPY}) == expected
    for i, row in enumerate(rows):
        native = requests.to_json(requests.native_request(contract, row))
        assert decoded(contract, native, {"content-type": JSON}) == {name: [v[i]] for name, v in expected.items()}


def test_members_beside_the_inputs_reach_the_binary_request() -> None:
    body, headers = requests.v2_binary_request(contract_of(PICTURE), PICTURES, {"parameters": {"top_k": 2}})
    head = json.loads(body[: int(headers["Inference-Header-Content-Length"])])
    assert head["parameters"] == {"top_k": 2}
    assert head["inputs"] == [
        {"name": "image", "shape": [2, 2, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 12}}
    ]


def test_a_native_request_gives_its_row_back() -> None:
    for inputs, row in ((MANY, {"size": 1.0, "count": 2}), (PICTURE, {"image": [[1]]})):
        contract = contract_of(inputs)
        assert requests.native_row(contract, requests.native_request(contract, row)) == row


def test_only_the_value_of_a_row_without_names_stands_below_inputs() -> None:
    assert requests.native_request(contract_of(PICTURE), {"image": 1}) == {"inputs": 1}
    assert requests.native_request(contract_of(PICTURE), {}) == {"inputs": None}
    assert requests.native_request(contract_of(MANY), {"more": 1}) == {"more": 1}
