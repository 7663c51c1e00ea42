"""A regression of several targets: their values by name, in every protocol, and in what is captured."""

from collections.abc import Mapping

import msgspec
import numpy as np
import orjson
import pytest

from handlers.batch import Batch, Observers
from handlers.contract import Array, ModelContract, TensorSpec
from handlers.observe.events import Answered, Events
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, contract, serve

TARGETS = (TensorSpec("delay", "FP32", unit="minutes"), TensorSpec("fuel", "FP64", unit="kg"))
TWO = msgspec.structs.replace(contract(TensorSpec("x", "FP32"), name="two"), outputs=TARGETS)
X = {"x": np.array([1, 2.5], np.float32)}
EXPECTED = [{"delay": 2.0, "fuel": -1.0}, {"delay": 5.0, "fuel": -2.5}]


class Two:
    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return {"delay": 2 * tensors["x"], "fuel": -tensors["x"].astype(np.float64)}


@pytest.mark.parametrize("name", ["v1", "npy"])
def test_an_answer_names_each_target(name: str) -> None:
    handler = serve(TWO, Two())
    assert wire.ask(handler, wire.WRITERS[name](TWO, X)) == {"predictions": EXPECTED}
    assert wire.ask(handler, wire.request({"x": 1})) == {"prediction": EXPECTED[0]}


@pytest.mark.parametrize("name", ["v2", "v2 binary"])
def test_each_target_is_an_output_of_the_open_inference_protocol(name: str) -> None:
    outputs = wire.ask(serve(TWO, Two()), wire.WRITERS[name](TWO, X))["outputs"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in outputs] == [
        ("delay", "FP32", [2]),
        ("fuel", "FP64", [2]),
    ]
    assert [one["data"] for one in outputs] == [[2.0, 5.0], [-1.0, -2.5]]


def test_the_targets_are_captured_by_name() -> None:
    batches: list[Batch] = []
    handler = serve(TWO, Two())
    handler.observers = Observers(TWO.name, [batches.append])
    handler.handle([wire.v1(TWO, X)])
    decoded, outputs = batches[0].answered[0]
    events = Events(TWO).of(Answered("r-1", 0.0, range(2), decoded.data, outputs))
    told = [orjson.loads(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)) for event in events]
    assert [event["data"]["output"] for event in told] == EXPECTED


def test_its_contract_says_the_newer_format_and_that_of_one_target_says_none() -> None:
    assert msgspec.json.decode(TWO.to_json())["format"] == 2
    assert ModelContract.from_json(TWO.to_json()) == TWO
    assert "format" not in msgspec.json.decode(LINE.to_json())


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ((), "outputs of one number a row, one at least"),
        ((TARGETS[0], TensorSpec("fuel", "FP32", (-1, 3))), "outputs of one number a row"),
        ((TARGETS[0], TensorSpec("fuel", "BYTES")), "outputs of one number a row"),
        ((TARGETS[0], TARGETS[0]), "must be distinct"),
    ],
)
def test_a_target_is_a_number_of_its_own(outputs: tuple[TensorSpec, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        msgspec.structs.replace(TWO, outputs=outputs)
