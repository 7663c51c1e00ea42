"""Rows in JSON: the native format, and KServe v1."""

from typing import Any

import numpy as np
import pytest

from handlers.contract import ModelContract, TensorSpec
from handlers.formats.rows import RowDecoder, Rows
from handlers.message import InputError
from tests.support.handlers import wire
from tests.support.handlers.models import FLIGHTS, LINE, MAX_ROWS, MIXED, PICTURES, contract, pixels

ROW = {"distance": 1400, "hour": 5, "carrier": "UA"}
MIXED_ROW = {"words": ["a", "b"], "serial": 2**64 - 1, "flags": [True, False, True], "tensor": [[1, 2], [3, 4]]}


def native(model: ModelContract, body: Any) -> Rows:
    return RowDecoder(model, MAX_ROWS).decode(body if isinstance(body, bytes) else wire.dumps(body), "native")


def v1(model: ModelContract, body: Any) -> Rows:
    return RowDecoder(model, MAX_ROWS).decode(body if isinstance(body, bytes) else wire.dumps(body), "v1")


def refused(model: ModelContract, body: Any) -> InputError:
    """The refusal of a row."""
    with pytest.raises(InputError) as alone:
        native(model, body)
    return alone.value


def test_a_row_of_features_becomes_one_tensor_a_feature() -> None:
    rows = native(FLIGHTS, ROW)
    assert (rows.rows, rows.top_k) == (1, 1)
    assert wire.same(rows.tensors["distance"], np.array([1400], np.float32))
    assert wire.same(rows.tensors["hour"], np.array([5]))
    assert wire.same(rows.tensors["carrier"], np.array([3]))


def test_the_order_of_the_keys_is_free_and_that_of_the_tensors_is_the_contracts() -> None:
    turned = dict(reversed(ROW.items()))
    assert list(native(FLIGHTS, turned).tensors) == ["distance", "hour", "carrier"]
    assert list(v1(FLIGHTS, {"instances": [turned]}).tensors) == ["distance", "hour", "carrier"]


def test_rows_keep_their_order() -> None:
    rows = v1(LINE, {"instances": [{"x": x} for x in (3, 1, 2)]})
    assert rows.rows == 3
    assert wire.same(rows.tensors["x"], np.array([3, 1, 2], np.float32))


def test_a_model_of_one_array_takes_it_bare() -> None:
    shown = pixels(rows=2)
    assert wire.same(native(PICTURES, {"inputs": shown[0]}).tensors["pixels"], shown[:1])
    assert wire.same(v1(PICTURES, {"instances": shown}).tensors["pixels"], shown)


def test_a_row_may_hold_arrays_of_every_type() -> None:
    rows = v1(MIXED, {"instances": [MIXED_ROW, MIXED_ROW | {"words": ["", "é:"], "serial": 0}]})
    assert rows.tensors["words"].tolist() == [["a", "b"], ["", "é:"]]
    assert wire.same(rows.tensors["serial"], np.array([2**64 - 1, 0], np.uint64))
    assert wire.same(rows.tensors["flags"], np.array([[True, False, True]] * 2))
    assert wire.same(rows.tensors["tensor"], np.array([[[1, 2], [3, 4]]] * 2))


def test_the_largest_number_of_rows_is_accepted_and_one_more_is_not() -> None:
    assert v1(LINE, {"instances": [{"x": 1}] * MAX_ROWS}).rows == MAX_ROWS
    with pytest.raises(InputError) as raised:
        v1(LINE, {"instances": [{"x": 1}] * (MAX_ROWS + 1)})
    assert (raised.value.code, raised.value.path) == ("too_many_rows", "$.instances")
    assert raised.value.expected == f"at most {MAX_ROWS} rows"


def test_no_rows_are_told_how_many_there_may_be() -> None:
    with pytest.raises(InputError) as raised:
        v1(LINE, {"instances": []})
    assert (raised.value.code, raised.value.path) == ("empty", "$.instances")
    assert raised.value.expected == f"1 to {MAX_ROWS} rows"


@pytest.mark.parametrize(
    ("model", "row", "code", "path"),
    [
        (FLIGHTS, {**ROW, "hour": 24}, "out_of_range", ".hour"),
        (FLIGHTS, {**ROW, "hour": -1}, "out_of_range", ".hour"),
        (FLIGHTS, {**ROW, "distance": 16.9}, "out_of_range", ".distance"),
        (FLIGHTS, {**ROW, "hour": None}, "wrong_type", ".hour"),
        (FLIGHTS, {**ROW, "hour": "5"}, "wrong_type", ".hour"),
        (FLIGHTS, {**ROW, "distance": [1400]}, "wrong_type", ".distance"),
        (FLIGHTS, {**ROW, "carrier": 3}, "wrong_type", ".carrier"),
        (FLIGHTS, {**ROW, "carrier": "ua"}, "unknown_category", ".carrier"),
        (FLIGHTS, {**ROW, "weather": "fair"}, "unknown_field", ".weather"),
        (FLIGHTS, {"distance": 1400, "carrier": "UA"}, "missing_field", ".hour"),
        (MIXED, MIXED_ROW | {"words": ["a"]}, "wrong_shape", ".words"),
        (MIXED, MIXED_ROW | {"words": ["a", None]}, "wrong_type", ".words[1]"),
        (MIXED, MIXED_ROW | {"flags": [True, False, 1]}, "wrong_type", ".flags[2]"),
        (MIXED, MIXED_ROW | {"serial": -1}, "out_of_range", ".serial"),
        (MIXED, MIXED_ROW | {"tensor": [[1, 2], [3]]}, "wrong_shape", ".tensor[1]"),
        (MIXED, MIXED_ROW | {"tensor": [[1, 2], [3, 2**64 - 1]]}, "out_of_range", ".tensor[1][1]"),
    ],
)
def test_a_fault_has_the_same_code_and_a_path_to_its_row_in_both_formats(
    model: ModelContract, row: dict[str, Any], code: str, path: str
) -> None:
    with pytest.raises(InputError) as alone:
        native(model, row)
    assert (alone.value.code, alone.value.path) == (code, f"${path}")
    good = ROW if model is FLIGHTS else MIXED_ROW
    with pytest.raises(InputError) as among:
        v1(model, {"instances": [good, row]})
    # Numbers of 64 bits that no one type of a column holds are found before their row is known.
    assert (among.value.code, among.value.path.replace("[1]", "", 1)) == (code, f"$.instances{path}")


def test_a_fault_in_a_bare_array_is_found_at_its_place() -> None:
    shown = pixels(rows=2).astype(int)
    shown[1, 2, 3] = 256
    with pytest.raises(InputError) as raised:
        v1(PICTURES, {"instances": shown})
    assert (raised.value.code, raised.value.path) == ("out_of_range", "$.instances[1][2][3]")
    with pytest.raises(InputError) as raised:
        native(PICTURES, {"inputs": shown[1]})
    assert (raised.value.code, raised.value.path) == ("out_of_range", "$.inputs[2][3]")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"x": 1, "x": 2}', "$.x"),
        (b'{"x": 1, "\\u0078": 2}', "$.x"),
        (b'{"x": 1, "parameters": {}, "parameters": {}}', "$.parameters"),
        (b'{"x": 1, "parameters": {"top_k": 2, "top_k": 1}}', "$.parameters.top_k"),
        (b'{"x": 1, "parameters": null, "parameters": {}}', "$.parameters"),
        (b'{"x": 1, "parameters": {"top_k": null, "top_k": 1}}', "$.parameters.top_k"),
    ],
)
def test_a_key_that_stands_twice_is_refused(body: bytes, path: str) -> None:
    with pytest.raises(InputError) as raised:
        native(LINE, body)
    assert (raised.value.code, raised.value.path) == ("duplicate_key", path)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"instances": [{"x": 1}], "instances": [{"x": 2}]}', "$.instances"),
        (b'{"instances": [{"x": 1}, {"x": 1, "x": 2}]}', "$.instances[1].x"),
    ],
)
def test_a_key_that_stands_twice_among_instances_is_refused(body: bytes, path: str) -> None:
    with pytest.raises(InputError) as raised:
        v1(LINE, body)
    assert (raised.value.code, raised.value.path) == ("duplicate_key", path)


def test_colons_in_strings_are_no_duplicates() -> None:
    colons = contract(TensorSpec("time", "BYTES", categories=("12:30", "::")), TensorSpec("text", "BYTES"))
    rows = native(colons, {"time": "::", "text": '":"'})
    assert (rows.tensors["time"].tolist(), rows.tensors["text"].tolist()) == ([1], ['":"'])


def test_a_category_that_is_unknown_is_told_the_closest_in_both_formats() -> None:
    with pytest.raises(InputError) as among:
        v1(FLIGHTS, {"instances": [ROW, ROW | {"carrier": "AAA"}]})
    for error in (refused(FLIGHTS, ROW | {"carrier": "AAA"}), among.value):
        assert error.message == "unknown carrier 'AAA'"
        assert error.expected.startswith("one of 5 categories, closest: AA, ")


@pytest.mark.parametrize(
    ("model", "row", "expected"),
    [
        (FLIGHTS, ROW | {"distance": "far"}, "number from 17 to 4983 (miles)"),
        (FLIGHTS, [], "an object with distance, hour, carrier"),
        (PICTURES, {"pixels": []}, 'an object with "inputs" or "instances"'),
        (PICTURES, {"inputs": 1}, "array of shape [6, 6], each value: integer"),
        (LINE, {"x": 1, "parameters": {"top_k": "2"}}, "an integer"),
    ],
)
def test_an_error_says_what_would_be_right(model: ModelContract, row: Any, expected: str) -> None:
    error = refused(model, row)
    assert expected in error.expected


def test_a_feature_may_be_called_as_a_word_of_the_decoders_messages() -> None:
    odd = contract(TensorSpec("array", "FP32"), TensorSpec("length", "INT8"), TensorSpec("at", "BYTES"))
    error = refused(odd, {"array": 1, "length": 300, "at": "x"})
    assert (error.code, error.path, error.expected) == ("out_of_range", "$.length", "integer")


@pytest.mark.parametrize("datatype", ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32"])
def test_an_integer_is_held_to_the_limits_of_its_type(datatype: str) -> None:
    model = contract(TensorSpec("x", datatype), TensorSpec("y", "FP32"))
    info = np.iinfo(model.inputs[0].dtype)
    for value in (int(info.min), int(info.max)):
        assert native(model, {"x": value, "y": 0}).tensors["x"].tolist() == [value]
    for value in (int(info.min) - 1, int(info.max) + 1):
        assert refused(model, {"x": value, "y": 0}).code == "out_of_range"


INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
SHAPES = ((-1,), (-1, 1))


def written(shape: tuple[int, ...], text: str) -> str:
    """A row of one input ``n``, and another that is a scalar, so that rows are named."""
    return f'{{"n": {text if shape == (-1,) else f"[{text}]"}, "m": 1}}'


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", INTEGERS)
def test_a_whole_float_is_an_integer(datatype: str, shape: tuple[int, ...]) -> None:
    model = contract(TensorSpec("n", datatype, shape), TensorSpec("m", datatype))
    for text, value in (("8.0", 8), ("1e0", 1), ("-0.0", 0), ("12e1", 120), ("8", 8)):
        row = written(shape, text)
        for rows in (native(model, row.encode()), v1(model, f'{{"instances": [{row}]}}'.encode())):
            assert rows.tensors["n"].ravel().tolist() == [value]
            assert rows.tensors["n"].dtype == TensorSpec("n", datatype).dtype


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("text", ["8.5", "1e-1", "1e300", "9007199254740993.0", "true", '"8"', "null"])
def test_another_number_is_no_integer(datatype: str, shape: tuple[int, ...], text: str) -> None:
    model = contract(TensorSpec("n", datatype, shape), TensorSpec("m", datatype))
    error = refused(model, written(shape, text).encode())
    assert error.code in ("wrong_type", "out_of_range")
    assert error.path.startswith("$.n")
    assert "float |" not in error.message


def test_a_float_beyond_what_it_can_tell_apart_is_refused_and_an_integer_is_not() -> None:
    model = contract(TensorSpec("n", "INT64"))
    assert native(model, b'{"n": 9007199254740993}').tensors["n"].tolist() == [2**53 + 1]
    assert native(model, b'{"n": 9007199254740991.0}').tensors["n"].tolist() == [2**53 - 1]
    assert refused(model, b'{"n": 9007199254740992.0}').code == "out_of_range"


def test_a_range_bounds_whole_floats_too() -> None:
    for text in (b"24.0", b"-1.0"):
        body = wire.dumps(ROW).replace(b'"hour":5', b'"hour":' + text)
        assert refused(FLIGHTS, body).code == "out_of_range"


def test_true_is_no_number_and_one_is_no_truth() -> None:
    flags = contract(TensorSpec("on", "BOOL"), TensorSpec("n", "FP32"))
    for value in (1, 1.0, "true", None):
        assert refused(flags, {"on": value, "n": 1}).code == "wrong_type"
    assert refused(flags, {"on": True, "n": True}).code == "wrong_type"


@pytest.mark.parametrize("parameters", ["null", "{}", '{"top_k": null}', '{"top_k": 1.0}', '{"top_k": 1}'])
def test_parameters_that_say_nothing_are_as_if_absent(parameters: str) -> None:
    assert native(LINE, f'{{"x": 1, "parameters": {parameters}}}'.encode()).top_k == 1
    assert v1(LINE, f'{{"instances": [{{"x": 1}}], "parameters": {parameters}}}'.encode()).top_k == 1
