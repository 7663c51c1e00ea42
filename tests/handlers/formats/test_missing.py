"""Inputs that may be missing: null, an absent key or tensor, and NaN mean alike; the graph gets NaN or a default."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pytest

from handlers.batch import Batch, Observers
from handlers.contract import Array, TensorSpec
from handlers.features import FeatureRows
from handlers.formats.codec import Codec
from handlers.message import OCTETS, InputError, Request
from handlers.observe.events import Answered, Events
from tests.support.handlers import wire
from tests.support.handlers.models import MAX_ROWS, Formula, contract, serve

PERSON = contract(
    TensorSpec("age", "FP32", range=(0, 120), nullable=True),
    TensorSpec("income", "FP64", range=(0, 1e6), nullable=True, default=-1.0),
    TensorSpec("city", "BYTES", categories=("Bonn", "Ulm", "elsewhere"), nullable=True, default="elsewhere"),
    TensorSpec("note", "BYTES", nullable=True, default="none"),
    TensorSpec("rooms", "INT64"),
    name="person",
)
GIVEN = {"age": 30.0, "income": 5.0, "city": "Ulm", "note": "quiet", "rooms": 3}
LACKING = {"age": None, "income": None, "city": None, "note": None, "rooms": 3}
ARRAYS = {
    "age": np.array([np.nan, 30], np.float32),
    "income": np.array([np.nan, 5]),
    "city": np.array([None, "Ulm"], object),
    "note": np.array([None, "quiet"], object),
    "rooms": np.array([3, 3]),
}
FORMATS = [name for name in wire.WRITERS if name != "native"]


class Noting(Formula):
    """Notes what its graph gets."""

    got: Mapping[str, Array]

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        self.got = tensors
        return super().run(tensors)


def graph_of(*asked: Request) -> dict[str, list[Any]]:
    """What the graph gets of requests that came together."""
    engine = Noting(PERSON)
    handler = serve(PERSON, engine)
    assert [response.status for response in handler.handle(asked)] == [200] * len(asked)
    assert {name: values.dtype for name, values in engine.got.items()} == {
        spec.name: spec.graph_dtype for spec in PERSON.inputs
    }
    return {name: [None if value != value else value for value in engine.got[name].tolist()] for name in engine.got}


def refusal(body: Any) -> InputError:
    with pytest.raises(InputError) as raised:
        Codec(PERSON, MAX_ROWS).decode(wire.request(body))
    return raised.value


@pytest.mark.parametrize(
    "body",
    [
        wire.dumps(LACKING),
        b'{"rooms": 3}',
        b'{"age": NaN, "income": NaN, "city": NaN, "note": NaN, "rooms": 3}',
        b'{"age": null, "rooms": 3, "city": null}',
        b'{"note": "", "rooms": 3}',
        b'{"instances": [{"rooms": 3, "note": ""}]}',
        b'{"instances": [{"rooms": 3}]}',
        b'{"instances": [{"rooms": 3, "age": NaN, "city": null}]}',
        b'{"inputs": [{"name": "rooms", "shape": [1], "datatype": "INT64", "data": [3]}]}',
        b'{"inputs": [{"name": "rooms", "shape": [1], "datatype": "INT64", "data": [3]}, '
        b'{"name": "age", "shape": [1], "datatype": "FP64", "data": [NaN]}, '
        b'{"name": "city", "shape": [1], "datatype": "BYTES", "data": [null]}, '
        b'{"name": "note", "shape": [1, 1], "datatype": "BYTES", "data": [[null]]}]}',
        b'{"inputs": [{"name": "rooms", "shape": [1, 1], "datatype": "INT64", "data": [[3]]}, '
        b'{"name": "income", "shape": [1, 1], "datatype": "FP32", "data": [[null]]}, '
        b'{"name": "city", "shape": [1], "datatype": "BYTES", "data": [""]}, '
        b'{"name": "note", "shape": [1], "datatype": "BYTES", "data": [""]}]}',
    ],
)
def test_the_graph_gets_nan_or_the_default_for_what_is_missing(body: bytes) -> None:
    expected = {"age": [None], "income": [-1], "city": [2], "note": ["none"], "rooms": [3]}
    assert graph_of(wire.request(body)) == expected


def test_an_array_of_numpy_may_lack_a_field() -> None:
    columns = [("rooms", "i8"), ("city", "U4"), ("note", "U5")]
    rows = np.array([(3, "", ""), (3, "Ulm", "quiet")], columns)
    assert graph_of(wire.request(wire.save(rows), "application/x-npy")) == {
        "age": [None, None],
        "income": [-1, -1],
        "city": [2, 1],
        "note": ["none", "quiet"],
        "rooms": [3, 3],
    }


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_say_it_beside_rows_that_have_it(name: str) -> None:
    expected = {"age": [None, 30], "income": [-1, 5], "city": [2, 1], "note": ["none", "quiet"], "rooms": [3, 3]}
    assert graph_of(wire.WRITERS[name](PERSON, ARRAYS)) == expected


def test_requests_of_several_formats_run_together() -> None:
    got = graph_of(wire.request(GIVEN), wire.npy(PERSON, ARRAYS), wire.request({"rooms": 3}))
    numbers = {"age": [30, None, 30, None], "income": [5, -1, 5, -1], "city": [1, 2, 1, 2], "rooms": [3] * 4}
    assert got == numbers | {"note": ["quiet", "none", "quiet", "none"]}


@pytest.mark.parametrize("name", ["native", *FORMATS])
def test_it_is_captured_as_missing_in_every_format(name: str) -> None:
    batches: list[Batch] = []
    handler = serve(PERSON)
    handler.observers = Observers(PERSON.name, [batches.append])
    handler.handle([wire.WRITERS[name](PERSON, ARRAYS)])
    decoded, outputs = batches[0].answered[0]
    (first, *_) = Events(PERSON).of(Answered("r-1", 0.0, range(decoded.rows), decoded.data, outputs))
    told = orjson.loads(orjson.dumps(first, option=orjson.OPT_SERIALIZE_NUMPY))
    assert told["data"]["features"] == LACKING


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"rooms": None}, "wrong_type", "$.rooms"),
        ({"age": "old"}, "wrong_type", "$.age"),
        ({"age": 121}, "out_of_range", "$.age"),
        ({"city": "Rome"}, "unknown_category", "$.city"),
        ({"note": 3}, "wrong_type", "$.note"),
        ({"town": None}, "unknown_field", "$.town"),
    ],
)
def test_a_value_that_is_there_must_be_right(change: dict[str, Any], code: str, path: str) -> None:
    error = refusal(GIVEN | change)
    assert (error.code, error.path) == (code, path)


def test_an_input_that_is_not_nullable_must_be_there() -> None:
    assert (refusal({"age": 30}).code, refusal({"age": 30}).path) == ("missing_field", "$.rooms")
    v2 = {"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": [30]}]}
    assert refusal(v2).message == "input 'rooms' is missing"
    assert refusal(wire.dumps(v2).replace(b"[30]", b"[1e999]").replace(b"30", b"1e999")).code == "out_of_range"


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b'{"rooms": NaN}', "not_finite", "$.rooms"),
        (b'{"rooms": null, "age": NaN}', "wrong_type", "$.rooms"),
        (b'{"instances": [{"rooms": 3, "city": NaN}, {"rooms": NaN}]}', "not_finite", "$.instances[1].rooms"),
        (
            b'{"inputs": [{"name": "rooms", "shape": [2], "datatype": "FP32", "data": [3, NaN]}]}',
            "not_finite",
            "$.inputs[0].data[1]",
        ),
    ],
)
def test_a_nan_of_an_input_that_is_not_nullable_gets_what_nan_gets_elsewhere(body: bytes, code: str, path: str) -> None:
    error = refusal(body)
    assert (error.code, error.path) == (code, path)
    assert (error.message == "NaN is no JSON number") == (code == "not_finite")


def test_json_beside_binary_tensors_may_hold_a_nan() -> None:
    rooms = {"name": "rooms", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 8}}
    age = {"name": "age", "shape": [1], "datatype": "FP32", "data": [math.nan]}
    head = json.dumps({"inputs": [rooms, age]}).encode()
    body = head + np.array([3]).tobytes()
    got = graph_of(wire.request(body, OCTETS, inference_header_content_length=str(len(head))))
    assert got == {"age": [None], "income": [-1], "city": [2], "note": ["none"], "rooms": [3]}


def test_an_empty_text_is_captured_as_missing() -> None:
    for body in ({"rooms": 3, "note": ""}, {"instances": [{"rooms": 3, "note": ""}]}):
        decoded = Codec(PERSON, MAX_ROWS).decode(wire.request(body))
        (event,) = Events(PERSON).of(Answered("r-1", 0.0, [0], decoded.data, {"y": np.zeros(1, np.float32)}))
        assert event["data"]["features"] == LACKING


@pytest.mark.parametrize("body", [b'{"rooms": 3, "rooms": 4}', b'{"instances": [{"rooms": 3, "age": 1, "age": null}]}'])
def test_a_key_that_stands_twice_does_not_hide_behind_an_absent_one(body: bytes) -> None:
    assert refusal(body).code == "duplicate_key"


def test_the_word_nan_inside_a_string_stays() -> None:
    assert refusal(b'{"rooms": 3, "city": "\\"NaN"}').message == "unknown city '\"NaN'"


def test_rows_still_wait_as_rows() -> None:
    assert isinstance(Codec(PERSON, MAX_ROWS).decode(wire.request({"rooms": 3})).data, FeatureRows)
