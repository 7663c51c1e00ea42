"""NumPy files: which arrays fit a model, and that no file does harm."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy_format
from numpy.lib.recfunctions import repack_fields

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.formats.npy import decode, encode
from handlers.message import InputError
from tests.support.handlers import wire
from tests.support.handlers.models import FLIGHTS, LINE, MAX_ROWS, PICTURES, contract, pixels

FLIGHT = np.array([(1400, 5, "UA"), (20, 23, "AA")], [("distance", "f4"), ("hour", "i8"), ("carrier", "U2")])


def read(model: ModelContract, array: Array) -> dict[str, Array]:
    tensors, rows = decode(model, wire.save(array), MAX_ROWS)
    assert rows == len(array)
    return tensors


def refused(model: ModelContract, body: Array | bytes) -> tuple[str, str]:
    """Code and path of the refusal of an array, or of a file."""
    with pytest.raises(InputError) as raised:
        decode(model, body if isinstance(body, bytes) else wire.save(body), MAX_ROWS)
    assert raised.value.message
    assert raised.value.expected
    return raised.value.code, raised.value.path


def file(descr: str, shape: Any, data: bytes = b"", fortran: bool = False, version: int = 1) -> bytes:
    """A file whose header says what it will."""
    head = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(head)) + head + data


def only(datatype: str, *inner: int) -> ModelContract:
    return contract(TensorSpec("x", datatype, (-1, *inner)))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "<i8", "|u1", ">u2"])
def test_any_real_number_fits_a_float_of_any_byte_order(dtype: str) -> None:
    found = read(LINE, np.array([3, 0, 7], dtype))["x"]
    assert wire.same(found, np.array([3, 0, 7], np.float32))


def test_an_array_in_fortran_order_keeps_its_elements() -> None:
    shown = pixels(rows=3)
    found = read(PICTURES, np.asfortranarray(shown))["pixels"]
    assert wire.same(found, shown)
    assert found.flags.c_contiguous


def test_the_second_version_of_the_format_is_read() -> None:
    tensors, rows = decode(LINE, file("'<f4'", "(1,)", struct.pack("<f", 2.5), version=2), MAX_ROWS)
    assert (tensors["x"].tolist(), rows) == ([2.5], 1)


def test_a_structured_array_has_a_field_a_feature_in_any_order() -> None:
    for array in (FLIGHT, repack_fields(FLIGHT[["carrier", "hour", "distance"]])):
        found = read(FLIGHTS, array)
        assert list(found) == ["distance", "hour", "carrier"]
        assert wire.same(found["distance"], np.array([1400, 20], np.float32))
        assert wire.same(found["hour"], np.array([5, 23]))
        assert wire.same(found["carrier"], np.array([3, 0]))
        assert all(tensor.flags.c_contiguous for tensor in found.values())


def test_a_model_of_one_input_takes_a_structured_array_too() -> None:
    assert read(LINE, np.array([(2,)], [("x", "f4")]))["x"].tolist() == [2]


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", ">i8", "u1"])
def test_numbers_are_told_by_their_values_and_not_by_their_datatype(dtype: str) -> None:
    for datatype in ("INT8", "UINT16", "INT64", "UINT64", "FP16", "FP64"):
        found = read(only(datatype), np.array([[8], [0], [-0.0]], dtype))["x"]
        assert found.tolist() == [8, 0, 0]
        assert found.dtype == only(datatype).inputs[0].dtype


def test_a_column_may_come_with_ones_at_the_end_of_its_shape() -> None:
    assert read(LINE, np.array([[[1.5]], [[2]], [[3]]]))["x"].tolist() == [1.5, 2, 3]
    assert read(PICTURES, np.asfortranarray(pixels(rows=2)[..., None]))["pixels"].tolist() == pixels(rows=2).tolist()
    table = np.array([([1400], 5, ["UA"])], [("distance", "f4", (1,)), ("hour", "f8"), ("carrier", "U2", (1,))])
    assert {name: tensor.tolist() for name, tensor in read(FLIGHTS, table).items()} == {
        "distance": [1400],
        "hour": [5],
        "carrier": [3],
    }


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("array", [np.array([1.5, 2]), np.array([(1.5,), (2,)], [("x", ">f4")])])
def test_every_version_of_the_format_is_read(version: tuple[int, int], array: Array) -> None:
    buffer = io.BytesIO()
    npy_format.write_array(buffer, array, version)
    assert decode(LINE, buffer.getvalue(), MAX_ROWS)[0]["x"].tolist() == [1.5, 2]


def test_names_beyond_latin_1_need_version_3() -> None:
    model = contract(TensorSpec("température", "FP32"), TensorSpec("длина", "FP32"))
    buffer = io.BytesIO()
    table = np.array([(1, 2)], [("длина", "f4"), ("température", "f4")])
    npy_format.write_array(buffer, table, (3, 0))
    found = decode(model, buffer.getvalue(), MAX_ROWS)[0]
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"température": [2], "длина": [1]}


@pytest.mark.parametrize("version", [b"\x04\x00", b"\x01\x01", b"\x00\x00", b"\xff\xff"])
def test_an_unknown_version_is_named(version: bytes) -> None:
    number = "{}.{}".format(*version)
    with pytest.raises(InputError, match=f"version {number} of the format.*version 1.0, 2.0 or 3.0"):
        decode(LINE, b"\x93NUMPY" + version + wire.save(np.zeros(2))[8:], MAX_ROWS)


def test_fields_of_another_shape_are_refused() -> None:
    pairs = contract(TensorSpec("pair", "FP32", (-1, 2)), TensorSpec("x", "FP32"))
    good = np.zeros(3, [("pair", "f4", (2,)), ("x", "f4")])
    assert read(pairs, good)["pair"].shape == (3, 2)
    bad = np.zeros(3, [("pair", "f4", (3,)), ("x", "f4")])
    assert refused(pairs, bad) == ("wrong_shape", "$.pair")


@pytest.mark.parametrize("strings", [np.array(["AA", "é"]), np.array([b"AA", b"x"])])
def test_strings_of_both_kinds_are_read(strings: Array) -> None:
    expected = np.array([s if isinstance(s, str) else s.decode() for s in strings.tolist()], object)
    assert wire.same(read(only("BYTES"), strings)["x"], expected)


@pytest.mark.parametrize(
    "body",
    [
        file("'|S1'", "(1,)", b"\xff"),
        file("'<U1'", "(1,)", struct.pack("<I", 0xD800)),
        file("'<U1'", "(1,)", struct.pack("<I", 0xFFFFFFFF)),
        file("'<U1'", "(1,)", struct.pack("<I", 0x410055A)),  # whose last bits are a character's
        file("'>U1'", "(1,)", struct.pack(">I", 0x110000)),
    ],
)
def test_strings_that_are_no_text_are_refused(body: bytes) -> None:
    assert refused(only("BYTES"), body) == ("invalid_utf8", "$")


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("FP32", "U1"),
        ("FP32", "?"),
        ("FP32", "c8"),
        ("FP32", "M8[s]"),
        ("FP32", "V4"),
        ("UINT8", "?"),
        ("BOOL", "u1"),
        ("BYTES", "i4"),
    ],
)
def test_a_dtype_that_is_not_the_datatypes_is_refused(datatype: str, dtype: str) -> None:
    assert refused(only(datatype), np.zeros(1, dtype)) == ("wrong_datatype", "$")


@pytest.mark.parametrize(
    ("model", "array", "code", "path"),
    [
        (LINE, np.zeros(()), "wrong_shape", "$"),
        (LINE, np.zeros((1, 2)), "wrong_shape", "$"),
        (LINE, np.zeros((2, 1, 2)), "wrong_shape", "$"),
        (only("INT64"), np.array([8.0, 8.5]), "wrong_type", "$[1]"),
        (only("INT64"), np.array([[2.0**53]]), "out_of_range", "$[0]"),
        (only("INT64"), np.array([2.0**63]), "out_of_range", "$[0]"),
        (only("UINT8"), np.array([np.nan], "f4"), "not_finite", "$[0]"),
        (LINE, np.zeros(0), "empty", "$"),
        (LINE, np.zeros(MAX_ROWS + 1), "too_many_rows", "$"),
        (LINE, np.array([0, np.inf]), "not_finite", "$[1]"),
        (LINE, np.array([0, 1e39]), "out_of_range", "$[1]"),
        (PICTURES, np.zeros((6, 6), np.uint8), "wrong_shape", "$"),
        (PICTURES, np.full((1, 6, 6), 256), "out_of_range", "$[0][0][0]"),
        (PICTURES, np.full((1, 6, 6), -1, np.int8), "out_of_range", "$[0][0][0]"),
        (FLIGHTS, np.zeros(2), "wrong_datatype", "$"),
        (FLIGHTS, repack_fields(FLIGHT[["distance", "hour"]]), "wrong_datatype", "$"),
        (FLIGHTS, np.array([(1400, 24, "UA")], FLIGHT.dtype), "out_of_range", "$.hour[0]"),
        (FLIGHTS, np.array([(1400, 5, "XX")], FLIGHT.dtype), "unknown_category", "$.carrier[0]"),
        (FLIGHTS, FLIGHT.reshape(1, 2), "wrong_shape", "$.distance"),
        (only("UINT64"), np.array([-1]), "out_of_range", "$[0]"),
        (only("INT64"), np.array([2**63], np.uint64), "out_of_range", "$[0]"),
    ],
)
def test_an_array_that_is_not_the_contracts_is_refused_at_its_fault(
    model: ModelContract, array: Array, code: str, path: str
) -> None:
    assert refused(model, array) == (code, path)


@pytest.mark.parametrize(
    "body",
    [
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x09\x00",
        b"no numpy file",
        wire.save(np.zeros(2))[:-1],
        wire.save(np.zeros(2)) + b"\0",
        file("'<f4'", "(10**9,)"),
        file("'<f4'", "(1000000000000,)", b"1234"),
        file("'<f4'", "(-1,)", b"1234"),
        file("'<f4'", "(-1, -1)", b"1234"),
        file("'<f4'", "(0, 99999999999999999999)"),
        file("'|V0'", "(99999999999999999999,)"),
        file("'<U0'", "(2,)"),
        file("'|O'", "(1,)", b"12345678"),
        file("[('x', '|O')]", "(1,)", b"12345678"),
        file("'<f99'", "(1,)", b"1234"),
        file("5", "(1,)", b"1234"),
        file("-" * 9000 + "1", "(1,)", b"1234"),
        file("(" * 9000, "(1,)", b"1234"),
        file("'" + "x" * 20_000 + "'", "(1,)", b"1234"),
    ],
)
def test_a_file_that_is_damaged_or_lies_is_refused(body: bytes) -> None:
    assert refused(LINE, body) == ("invalid_npy", "$")


def test_a_file_of_pickles_is_told_that_they_are_the_fault() -> None:
    with pytest.raises(InputError, match="pickled objects"):
        decode(LINE, wire.save(np.array([None])), MAX_ROWS)


def test_a_boolean_is_a_byte_of_0_or_1() -> None:
    flags = only("BOOL")
    assert decode(flags, file("'|b1'", "(2,)", b"\0\1"), MAX_ROWS)[0]["x"].tolist() == [False, True]
    assert refused(flags, file("'|b1'", "(2,)", b"\0\2")) == ("invalid_npy", "$")


@pytest.mark.parametrize("array", [pixels(), np.asfortranarray(pixels(rows=3)), np.arange(6)[::2], np.zeros((0, 2))])
def test_what_is_written_reads_back_the_same(array: Array) -> None:
    assert wire.same(wire.load(encode(array)), np.ascontiguousarray(array))
