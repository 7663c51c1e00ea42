"""BF16: numbers in JSON, two bytes each in binary tensors, FP32 in NumPy's arrays and in the graph's hands."""

from collections.abc import Mapping

import msgspec
import numpy as np
import pytest
import torch

from handlers.contract import BF16_MAX, Array, TensorSpec
from handlers.formats.tensors import brain_bytes, brain_numbers
from tests.support.handlers import wire
from tests.support.handlers.models import contract, serve

SHORT = contract(TensorSpec("x", "BF16"), TensorSpec("long", "FP32"), name="short", output=TensorSpec("y", "BF16"))
X = {"x": np.array([1.5, -0.0078125], np.float32), "long": np.zeros(2, np.float32)}


class Same:
    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        assert tensors["x"].dtype == np.float32
        return {"y": tensors["x"] + tensors["long"]}


@pytest.mark.parametrize("name", ["v1", "npy", "v2", "v2 binary"])
def test_the_same_numbers_pass_in_every_format(name: str) -> None:
    answer = wire.ask(serve(SHORT, Same()), wire.WRITERS[name](SHORT, X))
    assert (answer["outputs"][0]["data"] if name.startswith("v2") else answer["predictions"]) == [1.5, -0.0078125]


def test_a_binary_tensor_has_two_bytes_a_number_both_ways() -> None:
    asked = wire.v2_binary(SHORT, X, parameters={"binary_data_output": True})
    response = serve(SHORT, Same()).handle([asked])[0]
    head = msgspec.json.decode(response.body[: int(response.headers["Inference-Header-Content-Length"])])
    assert head["outputs"] == [
        {"name": "y", "shape": [2], "datatype": "BF16", "parameters": {"binary_data_size": 4}},
    ]
    assert wire.read_v2(response)["y"].tolist() == [1.5, -0.0078125]


def test_a_client_may_send_it_to_an_input_of_another_datatype() -> None:
    items = [{"name": name, "shape": [1], "datatype": "BF16", "data": [2]} for name in X]
    assert wire.ask(serve(SHORT, Same()), wire.request({"inputs": items}))["outputs"][0]["data"] == [4.0]
    head = wire.refusal(serve(SHORT, Same()), wire.request({"x": 3.4e38, "long": 0}))
    assert (head["code"], head["path"]) == ("out_of_range", "$.x")


def test_the_wrong_number_of_bytes_is_an_error() -> None:
    asked = wire.v2_binary(SHORT, X)
    body = asked.body.replace(b'"shape":[2],"datatype":"BF16"', b'"shape":[1],"datatype":"BF16"')
    assert wire.refusal(serve(SHORT, Same()), asked._replace(body=body))["expected"] == "2 bytes"


def test_numbers_are_rounded_as_torch_rounds_them() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint32)
    edges = np.array([0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 1], np.uint32)
    values = np.concatenate([bits, edges]).view(np.float32)
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    assert np.array_equal(brain_numbers(brain_bytes(values)), expected, equal_nan=True)
    assert float(torch.finfo(torch.bfloat16).max) == BF16_MAX


def test_its_contract_says_the_newer_format() -> None:
    assert msgspec.json.decode(SHORT.to_json())["format"] == 2
    with pytest.raises(ValueError, match="must be ascending, from -3.38"):
        TensorSpec("x", "BF16", range=(0, 3.4e38))
