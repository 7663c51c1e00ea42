"""The Open Inference Protocol, version 2, in JSON and with binary tensors."""

import struct
from typing import Any

import numpy as np
import orjson
import pytest

from handlers.contract import TensorSpec
from handlers.message import JSON, OCTETS, Request, Response
from tests.support.handlers import wire
from tests.support.handlers.models import FLIGHTS, LINE, MIXED, PICTURES, contract, pixels, serve

X = np.array([1, -2.5], np.float32)
TENSOR = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, -2.5]}
FLIGHT = {
    "distance": np.array([1400, 20], "f4"),
    "hour": np.array([5, 0]),
    "carrier": np.array(["UA", "AA"], object),
}


def binary(head: Any, blob: bytes = b"", length: str | None = None, content_type: str = OCTETS) -> Request:
    """A binary request; ``length`` is the header's text where it is not the truth."""
    text = head if isinstance(head, bytes) else wire.dumps(head)
    told = str(len(text)) if length is None else length
    return wire.request(text + blob, content_type, inference_header_content_length=told)


def sized(size: Any, **change: Any) -> dict[str, Any]:
    """A request whose only tensor is in binary."""
    tensor = {key: value for key, value in TENSOR.items() if key != "data"}
    return {"inputs": [tensor | {"parameters": {"binary_data_size": size}} | change]}


def answer(asked: Request, model: Any = LINE) -> Response:
    response = serve(model).handle([asked])[0]
    assert response.status == 200, response.body
    return response


def test_the_answer_names_model_version_and_outputs_and_repeats_the_id() -> None:
    body = wire.ask(serve(LINE), wire.request({"id": "4:2", "inputs": [TENSOR]}))
    assert {key: body[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": "line",
        "model_version": "1.2",
        "id": "4:2",
    }
    (output,) = body["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("y", [2], "FP32")
    single = [wire.ask(serve(LINE), wire.request({"x": float(x)}))["prediction"] for x in X]
    assert output["data"] == single


def test_without_an_id_there_is_none_in_the_answer() -> None:
    assert "id" not in wire.ask(serve(LINE), wire.request({"inputs": [TENSOR]}))


def test_the_order_of_the_tensors_is_free_in_json_and_in_binary() -> None:
    turned = dict(reversed(FLIGHT.items()))
    expected = wire.read_v2(answer(wire.v2(FLIGHTS, FLIGHT), FLIGHTS))["y"]
    for write in (wire.v2, wire.v2_nested, wire.v2_binary):
        assert wire.same(wire.read_v2(answer(write(FLIGHTS, turned), FLIGHTS))["y"], expected)


def test_one_tensor_may_be_binary_and_another_not() -> None:
    expected = wire.read_v2(answer(wire.v2(FLIGHTS, FLIGHT), FLIGHTS))["y"]
    inputs = orjson.loads(wire.v2(FLIGHTS, FLIGHT).body)["inputs"]
    del inputs[1]["data"]
    inputs[1]["parameters"] = {"binary_data_size": 16}
    mixed = binary({"inputs": inputs}, FLIGHT["hour"].tobytes())
    assert wire.same(wire.read_v2(answer(mixed, FLIGHTS))["y"], expected)


def test_a_binary_request_may_be_called_json() -> None:
    head = sized(8)
    by_name = answer(binary(head, X.tobytes(), content_type=JSON))
    assert by_name == answer(binary(head, X.tobytes()))
    assert answer(binary(head, X.tobytes(), content_type="")) == by_name


def test_a_header_that_covers_the_whole_body_leaves_json() -> None:
    assert answer(binary({"inputs": [TENSOR]})).content_type == JSON


@pytest.mark.parametrize("whole", [True, False])
def test_outputs_come_in_binary_where_asked_one_by_one_or_all_at_once(whole: bool) -> None:
    inputs = [{"name": "pixels", "shape": [2, 6, 6], "datatype": "UINT8", "data": pixels(rows=2).ravel()}]
    names = ["label", "index", "probability", "probabilities"]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in names]
    more = {"parameters": {"binary_data_output": True, "top_k": 3}} if whole else {"parameters": {"top_k": 3}}
    asked = wire.request({"inputs": inputs} | more | ({} if whole else {"outputs": outputs}))
    response = answer(asked, PICTURES)
    assert response.content_type == OCTETS
    plain = answer(wire.request({"inputs": inputs, "parameters": {"top_k": 3}}), PICTURES)
    assert plain.content_type == JSON
    found, expected = wire.read_v2(response), wire.read_v2(plain)
    assert list(found) == list(expected) == names
    assert all(wire.same(found[name], expected[name]) for name in names)


def test_the_default_for_all_outputs_is_overruled_by_an_output_of_its_own() -> None:
    one = {"name": "y", "parameters": {"binary_data": False}}
    asked = {"inputs": [TENSOR], "outputs": [one], "parameters": {"binary_data_output": True}}
    assert answer(wire.request(asked)).content_type == JSON


def test_only_the_outputs_that_are_asked_for_come_in_the_order_asked() -> None:
    asked = wire.v2(PICTURES, {"pixels": pixels(rows=2)})
    outputs = [{"name": "probability"}, {"name": "label"}]
    body = wire.ask(serve(PICTURES), wire.request(orjson.loads(asked.body) | {"outputs": outputs}))
    assert [(output["name"], output["shape"]) for output in body["outputs"]] == [
        ("probability", [2, 1]),
        ("label", [2, 1]),
    ]


def test_no_outputs_in_the_list_means_all() -> None:
    body = wire.ask(serve(LINE), wire.request({"inputs": [TENSOR], "outputs": []}))
    assert [output["name"] for output in body["outputs"]] == ["y"]


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"name": "z"}, "unknown_field", "$.inputs[0].name"),
        ({"datatype": "BOOL"}, "wrong_datatype", "$.inputs[0].datatype"),
        ({"datatype": "BYTES"}, "wrong_datatype", "$.inputs[0].datatype"),
        ({"datatype": "FP8"}, "wrong_datatype", "$.inputs[0].datatype"),
        ({"datatype": "INT8"}, "wrong_type", "$.inputs[0].data[1]"),
        ({"datatype": "UINT64", "data": [1, 2.5]}, "wrong_type", "$.inputs[0].data[1]"),
        ({"datatype": "UINT64", "data": [1, -1.0]}, "out_of_range", "$.inputs[0].data[1]"),
        ({"datatype": "FP16", "data": [1, 70000]}, "out_of_range", "$.inputs[0].data[1]"),
        ({"datatype": "fp32"}, "wrong_datatype", "$.inputs[0].datatype"),
        ({"shape": []}, "wrong_shape", "$.inputs[0].shape"),
        ({"shape": [2, 2]}, "wrong_shape", "$.inputs[0].shape"),
        ({"shape": [1, 2]}, "wrong_shape", "$.inputs[0].shape"),
        ({"shape": [2, 0]}, "wrong_shape", "$.inputs[0].shape"),
        ({"shape": [2, 1, 2]}, "wrong_shape", "$.inputs[0].shape"),
        ({"shape": [2] + [1] * 1000, "data": [[1], [2]]}, "wrong_shape", "$.inputs[0].shape"),
        ({"shape": [-1]}, "empty", "$.inputs[0].shape"),
        ({"shape": [2**63]}, "too_many_rows", "$.inputs[0].shape"),
        ({"shape": ["2"]}, "wrong_type", "$.inputs[0].shape[0]"),
        ({"shape": None}, "wrong_type", "$.inputs[0].shape"),
        ({"data": [1]}, "wrong_shape", "$.inputs[0].data"),
        ({"data": [1, 2, 3]}, "wrong_shape", "$.inputs[0].data"),
        ({"data": []}, "wrong_shape", "$.inputs[0].data"),
        ({"data": 1}, "wrong_type", "$.inputs[0].data"),
        ({"data": None}, "missing_field", "$.inputs[0].data"),
        ({"data": [1, None]}, "wrong_type", "$.inputs[0].data[1]"),
        ({"data": [1, "2"]}, "wrong_type", "$.inputs[0].data[1]"),
        ({"data": [[1], [2]]}, "wrong_type", "$.inputs[0].data[0]"),
        ({"data": [1, 1e39]}, "out_of_range", "$.inputs[0].data[1]"),
        ({"size": 2}, "unknown_field", "$.inputs[0].size"),
        ({"parameters": {"binary_data_size": 8}}, "invalid_tensor", "$.inputs[0].parameters.binary_data_size"),
    ],
)
def test_a_tensor_that_is_not_the_contracts_is_refused_at_its_fault(
    change: dict[str, Any], code: str, path: str
) -> None:
    assert wire.fault(serve(LINE), wire.request({"inputs": [TENSOR | change]})) == (
        413 if code == "too_many_rows" else 400,
        code,
        path,
    )


def test_nested_data_has_the_shape_that_is_told() -> None:
    shown = pixels(rows=2)
    tensor = {"name": "pixels", "shape": [2, 6, 6], "datatype": "UINT8", "data": shown}
    flat = wire.ask(serve(PICTURES), wire.v2(PICTURES, {"pixels": shown}))
    assert wire.ask(serve(PICTURES), wire.request({"inputs": [tensor]})) == flat
    turned = tensor | {"data": shown.reshape(6, 2, 6)}
    assert wire.fault(serve(PICTURES), wire.request({"inputs": [turned]})) == (400, "wrong_shape", "$.inputs[0].data")
    ragged = tensor | {"data": [shown[0].tolist(), shown[1].tolist()[:5]]}
    assert wire.fault(serve(PICTURES), wire.request({"inputs": [ragged]})) == (400, "wrong_shape", "$.inputs[0].data")


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        ({"inputs": [TENSOR, TENSOR]}, "duplicate_key", "$.inputs[1].name"),
        ({"inputs": [TENSOR], "id": 5}, "wrong_type", "$.id"),
        ({"inputs": [TENSOR], "ids": "5"}, "unknown_field", "$.ids"),
        ({"inputs": [TENSOR], "outputs": [{"name": "x"}]}, "unknown_output", "$.outputs[0].name"),
        ({"inputs": [TENSOR], "outputs": ["y"]}, "wrong_type", "$.outputs[0]"),
        ({"inputs": [TENSOR], "model_name": "other"}, "invalid_parameter", "$.model_name"),
        ({"inputs": [TENSOR], "model_name": 5}, "wrong_type", "$.model_name"),
        ({"inputs": [TENSOR], "model_version": "1.1"}, "invalid_parameter", "$.model_version"),
        ({"inputs": [TENSOR], "model_version": 1.2}, "wrong_type", "$.model_version"),
        ({"inputs": [TENSOR], "raw_input_contents": []}, "unknown_field", "$.raw_input_contents"),
        ({"inputs": [TENSOR], "parameters": []}, "wrong_type", "$.parameters"),
        ({"inputs": [TENSOR], "outputs": {}}, "wrong_type", "$.outputs"),
        (
            {"inputs": [TENSOR], "outputs": [{"name": "y", "parameters": {"classification": 1}}]},
            "invalid_parameter",
            "$.outputs[0].parameters.classification",
        ),
        (
            {"inputs": [TENSOR], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "a"}}]},
            "not_supported",
            "$.outputs[0].parameters.shared_memory_region",
        ),
        ({"inputs": [TENSOR], "parameters": {"top_k": 1.5}}, "invalid_parameter", "$.parameters.top_k"),
        ({"inputs": [TENSOR], "parameters": {"top_k": "1"}}, "invalid_parameter", "$.parameters.top_k"),
        ({"inputs": [TENSOR], "parameters": {"top_k": True}}, "invalid_parameter", "$.parameters.top_k"),
        ({"inputs": [TENSOR], "parameters": {"top_k": 2}}, "invalid_parameter", "$.parameters.top_k"),
    ],
)
def test_a_request_that_is_not_the_protocols_is_refused_at_its_fault(body: Any, code: str, path: str) -> None:
    status = 501 if code == "not_supported" else 400
    assert wire.fault(serve(LINE), wire.request(body)) == (status, code, path)


@pytest.mark.parametrize(
    "more",
    [
        {"model_name": "line"},
        {"model_name": "line", "model_version": "1.2", "raw_output": True},
        {"model_name": None, "model_version": None, "raw_output": None},
        {"model_name": "", "model_version": ""},
        {"id": None, "parameters": None, "outputs": None},
        {"parameters": {}, "outputs": []},
        {"parameters": {"top_k": None, "binary_data_output": None, "content_type": "pd", "priority": 1, "timeout": 5}},
        {"parameters": {"top_k": 1.0, "sequence_id": 7, "sequence_start": True}},
        {"outputs": [{"name": "y", "parameters": None}]},
        {"outputs": [{"name": "y", "parameters": {"binary_data": None, "classification": None}}]},
        {"outputs": [{"name": "y", "parameters": {"binary_data": False, "classification": 0}}]},
        {"inputs": [TENSOR | {"parameters": None}]},
        {"inputs": [TENSOR | {"parameters": {"content_type": "np", "binary_data_size": None}}]},
        {"inputs": [TENSOR | {"shape": [2, 1]}]},
        {"inputs": [TENSOR | {"shape": [2, 1], "data": [[1], [-2.5]]}]},
        {"inputs": [TENSOR | {"shape": [2, 1, 1]}]},
        {"inputs": [TENSOR | {"datatype": "FP64"}]},
        {"inputs": [TENSOR | {"datatype": "FP16", "shape": [2, 1]}]},
    ],
)
def test_what_a_client_may_add_changes_nothing(more: dict[str, Any]) -> None:
    expected = wire.ask(serve(LINE), wire.request({"inputs": [TENSOR]}))
    assert wire.ask(serve(LINE), wire.request({"inputs": [TENSOR]} | more)) == expected


def test_in_binary_what_is_null_is_absent_and_ones_at_the_end_are_no_other_shape() -> None:
    expected = answer(binary(sized(8), X.tobytes()))
    for change in ({"data": None}, {"shape": [2, 1]}):
        assert answer(binary(sized(8, **change), X.tobytes())) == expected
    wide = X.astype("<f8")
    assert answer(binary(sized(16, datatype="FP64", shape=[2, 1]), wide.tobytes())) == expected


@pytest.mark.parametrize("datatype", ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"])
@pytest.mark.parametrize("sent", ["FP16", "FP32", "FP64", "INT8", "INT64", "UINT64", "same"])
def test_a_whole_float_is_an_integer_whatever_the_datatypes(datatype: str, sent: str) -> None:
    model = contract(TensorSpec("n", datatype), name="whole")
    told = datatype if sent == "same" else sent
    tensor = {"name": "n", "shape": [4, 1], "datatype": told}
    written = b'{"inputs":[' + wire.dumps(tensor)[:-1] + b',"data":[8.0,1e0,-0.0,7]}]}'
    codec = serve(model)._codec
    expected = np.array([8, 1, 0, 7], TensorSpec("n", datatype).dtype)
    assert wire.same(codec.decode(wire.request(written)).tensors["n"], expected)
    blob = np.array([8, 1, 0, 7], TensorSpec("n", told).dtype).tobytes()
    head = {"inputs": [tensor | {"parameters": {"binary_data_size": len(blob)}}]}
    assert wire.same(codec.decode(binary(head, blob)).tensors["n"], expected)
    for text in (b"8.5", b"1e30", b"9007199254740993.0"):
        error = wire.refusal(serve(model), wire.request(written.replace(b"8.0", text)))
        assert error["code"] in ("wrong_type", "out_of_range")
        assert error["path"] == "$.inputs[0].data[0]"


def test_the_classification_extension_is_honoured() -> None:
    asked = wire.v2(PICTURES, {"pixels": pixels(rows=2)})
    plain = wire.ask(serve(PICTURES), asked)
    probabilities = next(one["data"] for one in plain["outputs"] if one["name"] == "probabilities")
    for in_binary in (False, True):
        outputs = [{"name": "probabilities", "parameters": {"classification": 2, "binary_data": in_binary}}]
        response = answer(wire.request(orjson.loads(asked.body) | {"outputs": outputs}), PICTURES)
        found = wire.read_v2(response)["probabilities"]
        assert found.shape == (2, 2)
        for row, texts in enumerate(found.tolist()):
            own = probabilities[4 * row : 4 * row + 4]
            order = sorted(range(4), key=lambda i: -own[i])[:2]
            assert texts == [f"{own[i]:f}:{i}:{PICTURES.labels[i]}" for i in order]


@pytest.mark.parametrize("count", [-1, 5, 1.5, "2", True])
def test_as_many_classes_are_told_as_there_are_at_most(count: Any) -> None:
    asked = orjson.loads(wire.v2(PICTURES, {"pixels": pixels()}).body)
    outputs = [{"name": "probabilities", "parameters": {"classification": count}}]
    path = "$.outputs[0].parameters.classification"
    assert wire.fault(serve(PICTURES), wire.request(asked | {"outputs": outputs})) == (400, "invalid_parameter", path)


@pytest.mark.parametrize(
    "asked",
    [
        wire.request({"inputs": [TENSOR | {"data": ["six", 1]}]}),
        wire.request({"instances": [{"x": "six"}]}),
        wire.request({"x": "six"}, explain="False"),
        wire.request({"inputs": [{"name": "x"}]}),
        binary(b"{", length="x"),
    ],
)
def test_an_error_is_a_text_with_its_details_beside_it(asked: Request) -> None:
    response = serve(LINE).handle([asked])[0]
    body = orjson.loads(response.body)
    assert response.status == 400
    assert body.keys() == {"error", "code", "message", "path", "expected", "request_id"}
    assert body["message"] in body["error"]
    assert body["expected"] in body["error"]


def test_a_tensor_without_data_is_refused() -> None:
    bare = {key: value for key, value in TENSOR.items() if key != "data"}
    assert wire.fault(serve(LINE), wire.request({"inputs": [bare]})) == (400, "missing_field", "$.inputs[0].data")


def test_a_missing_tensor_is_named() -> None:
    inputs = orjson.loads(wire.v2(FLIGHTS, FLIGHT).body)["inputs"]
    error = wire.refusal(serve(FLIGHTS), wire.request({"inputs": inputs[:2]}))
    assert (error["code"], error["path"], error["message"]) == (
        "missing_field",
        "$.inputs",
        "input 'carrier' is missing",
    )


def test_tensors_of_different_numbers_of_rows_are_refused() -> None:
    uneven = FLIGHT | {"hour": np.array([5])}
    error = wire.refusal(serve(FLIGHTS), wire.v2(FLIGHTS, uneven))
    assert (error["code"], error["path"]) == ("wrong_shape", "$.inputs")
    assert error["message"] == "rows differ: distance 2, hour 1, carrier 2"


def test_an_unknown_category_is_told_its_row() -> None:
    strange = FLIGHT | {"carrier": np.array(["UA", "XX"], object)}
    for write in (wire.v2, wire.v2_binary):
        assert wire.fault(serve(FLIGHTS), write(FLIGHTS, strange)) == (400, "unknown_category", "$.inputs[2].data[1]")


@pytest.mark.parametrize("length", ["-1", "+5", "1_0", "5.0", "", "x", "٣", "9" * 5000, "999"])
def test_a_length_of_the_header_that_makes_no_sense_is_refused(length: str) -> None:
    asked = binary(sized(8), X.tobytes(), length)
    assert wire.fault(serve(LINE), asked) == (400, "invalid_tensor", "inference-header-content-length")


@pytest.mark.parametrize("length", ["0", "3"])
def test_a_header_that_ends_too_early_is_no_json(length: str) -> None:
    assert wire.fault(serve(LINE), binary(sized(8), X.tobytes(), length)) == (400, "invalid_json", "$")


def test_a_header_that_runs_into_the_tensors_is_no_json() -> None:
    head = wire.dumps(sized(8))
    error = wire.refusal(serve(LINE), binary(head, X.tobytes(), str(len(head) + 4)))
    assert error["code"] in ("invalid_json", "invalid_utf8")


@pytest.mark.parametrize("size", [-1, True, 8.0, "8", [8]])
def test_a_size_that_is_no_size_is_refused(size: Any) -> None:
    path = "$.inputs[0].parameters.binary_data_size"
    assert wire.fault(serve(LINE), binary(sized(size), X.tobytes())) == (400, "invalid_tensor", path)


@pytest.mark.parametrize(("size", "sent"), [(4, 4), (8, 4), (12, 12), (2**63, 8), (0, 0), (7, 8)])
def test_a_size_that_is_not_the_shapes_is_refused(size: int, sent: int) -> None:
    path = "$.inputs[0].parameters.binary_data_size"
    assert wire.fault(serve(LINE), binary(sized(size), b"\0" * sent)) == (400, "invalid_tensor", path)


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    assert wire.fault(serve(LINE), binary(sized(8), X.tobytes() + b"\0")) == (400, "invalid_tensor", "$")
    assert wire.fault(serve(LINE), binary({"inputs": [TENSOR]}, b"\0")) == (400, "invalid_tensor", "$")


WORDS = contract(TensorSpec("words", "BYTES"), name="words")


def words(blob: bytes, rows: int = 1) -> Request:
    tensor = {"name": "words", "shape": [rows], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
    return binary({"inputs": [tensor]}, blob)


@pytest.mark.parametrize(
    ("blob", "code"),
    [
        (b"\0\0\0", "invalid_tensor"),
        (struct.pack("<I", 5) + b"four", "invalid_tensor"),
        (struct.pack("<I", 2**32 - 1), "invalid_tensor"),
        (struct.pack("<I", 1) + b"\xff", "invalid_utf8"),
    ],
)
def test_strings_that_run_past_the_end_or_are_no_text_are_refused(blob: bytes, code: str) -> None:
    assert wire.fault(serve(WORDS), words(blob)) == (400, code, "$.inputs[0].parameters.binary_data_size")


@pytest.mark.parametrize("rows", [1, 3])
def test_as_many_strings_are_sent_as_the_shape_says(rows: int) -> None:
    two = wire.to_binary(np.array(["a", ""], object))
    assert answer(words(two, 2), WORDS)
    path = "$.inputs[0].parameters.binary_data_size"
    assert wire.fault(serve(WORDS), words(two, rows)) == (400, "wrong_shape", path)


def test_a_boolean_is_a_byte_of_0_or_1() -> None:
    model = contract(TensorSpec("flag", "BOOL"), name="flags")
    tensor = {"name": "flag", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}}
    assert answer(binary({"inputs": [tensor]}, b"\0\1"), model)
    path = "$.inputs[0].parameters.binary_data_size"
    assert wire.fault(serve(model), binary({"inputs": [tensor]}, b"\0\2")) == (400, "invalid_tensor", path)


def test_integers_of_64_bits_lose_nothing_in_json() -> None:
    tensors = {
        "words": np.array([["a", "b"]], object),
        "serial": np.array([2**64 - 1], np.uint64),
        "flags": np.array([[True, False, True]]),
        "tensor": np.array([[[2**63 - 1, -(2**63)], [2**53 + 1, 0]]]),
    }
    decoded = serve(MIXED)._codec.decode(wire.v2(MIXED, tensors))
    assert all(wire.same(decoded.tensors[name], array) for name, array in tensors.items())


@pytest.mark.parametrize(
    ("text", "twice", "path"),
    [
        (
            b'"binary_data_size":8',
            b'"binary_data_size":8,"binary_data_size":8',
            "$.inputs[0].parameters.binary_data_size",
        ),
        (b'"datatype":"FP32"', b'"datatype":"FP32","datatype":"FP32"', "$.inputs[0].datatype"),
        (b'"inputs"', b'"id":null,"id":"a","inputs"', "$.id"),
        (b'"inputs"', b'"model_name":"line","model_name":null,"inputs"', "$.model_name"),
        (b'"parameters":', b'"parameters":null,"parameters":', "$.inputs[0].parameters"),
    ],
)
def test_a_key_that_stands_twice_is_refused_in_a_binary_request_too(text: bytes, twice: bytes, path: str) -> None:
    head = wire.dumps(sized(8)).replace(text, twice)
    assert head != wire.dumps(sized(8))
    assert wire.fault(serve(LINE), binary(head, X.tobytes())) == (400, "duplicate_key", path)
