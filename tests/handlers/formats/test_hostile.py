"""No input, however hostile, gets a 5xx; what is wrong is told with a status, a code and a path."""

import gzip
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.contract import Array, ModelContract
from handlers.message import JSON, MAX_BODY, NPY, OCTETS, STATUS, Request, Response
from tests.support.handlers import wire
from tests.support.handlers.models import COLOURS, FLIGHTS, LINE, MIXED, MODELS, PICTURES, pixels, serve

PNG, JPEG, FORM, LINES = (
    "image/png",
    "image/jpeg",
    "multipart/form-data; boundary=b",
    "application/x-www-form-urlencoded",
)
ALL = (*MODELS, COLOURS)
ROWS: dict[str, dict[str, Array]] = {
    "line": {"x": np.array([1.5, -2], "f4")},
    "flights": {
        "distance": np.array([1400, 2475], "f4"),
        "hour": np.array([5, 23]),
        "carrier": np.array(["UA", "B6"], object),
    },
    "pictures": {"pixels": pixels(rows=2)},
    "colours": {"pixels": np.stack([pixels(i)[0] for i in range(6)], -1).reshape(2, 6, 6, 3)},
    "mixed": {
        "words": np.array([["a", "é"], ["", ":"]], object),
        "serial": np.array([0, 2**64 - 1], "u8"),
        "flags": np.eye(3, dtype=bool)[:2],
        "tensor": np.arange(8).reshape(2, 2, 2),
    },
}
FLIGHT = b'{"distance": 1400, "hour": 5, "carrier": "UA"}'
SERIAL = (
    wire.dumps({"words": ["", ""], "flags": [True] * 3, "tensor": [[0, 0]] * 2})[:-1]
    + b',"serial":18446744073709551616'
)
DEEP = b',"parameters":{"a":' + b"[" * 100_000
BLANK = wire.dumps({"inputs": np.zeros((6, 6), np.uint8)})


def v2(**change: Any) -> bytes:
    """A v2 request for ``LINE``, changed: a key of its tensor, or of itself."""
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    return wire.dumps({"inputs": [tensor | {k: v for k, v in change.items() if k in tensor}]} | change.pop("more", {}))


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims to be a huge square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


BOMB = gzip.compress(bytes(MAX_BODY + 1), mtime=0)
TOO_MANY_PARTS = (400, "invalid_form", "form")
BAD: list[tuple[str, ModelContract, Request, tuple[int, str, str]]] = [
    ("not JSON", FLIGHTS, wire.request(b"distance=1400"), (400, "invalid_json", "$")),
    ("cut JSON", FLIGHTS, wire.request(FLIGHT[:-1]), (400, "invalid_json", "$")),
    ("wrong content type", FLIGHTS, wire.request(FLIGHT, "text/xml"), (415, "unsupported_media_type", "content-type")),
    ("no picture model", FLIGHTS, wire.request(b"x", PNG), (415, "unsupported_media_type", "content-type")),
    ("JSON as a form", LINE, wire.request(b"", LINES), (415, "unsupported_media_type", "content-type")),
    ("missing field", FLIGHTS, wire.request(b'{"distance": 1400, "hour": 5}'), (400, "missing_field", "$.carrier")),
    ("missing tensor", FLIGHTS, wire.request({"inputs": [{}]}), (400, "missing_field", "$.inputs[0].name")),
    ("unknown field", LINE, wire.request({"x": 1, "z": 2}), (400, "unknown_field", "$.z")),
    ("null", FLIGHTS, wire.request(FLIGHT.replace(b"5", b"null")), (400, "wrong_type", "$.hour")),
    ("null category", FLIGHTS, wire.request(FLIGHT.replace(b'"UA"', b"null")), (400, "wrong_type", "$.carrier")),
    ("text for a number", LINE, wire.request({"x": "1"}), (400, "wrong_type", "$.x")),
    ("boolean for a number", LINE, wire.request({"instances": [{"x": True}]}), (400, "wrong_type", "$.instances[0].x")),
    ("fraction for an integer", FLIGHTS, wire.request(FLIGHT.replace(b"5", b"5.5")), (400, "wrong_type", "$.hour")),
    ("NaN", LINE, wire.request(b'{"x": NaN}'), (400, "not_finite", "$")),
    ("infinity", LINE, wire.request(b'{"instances": [{"x": -Infinity}]}'), (400, "not_finite", "$")),
    ("NaN in npy", LINE, wire.request(wire.save(np.array([1, np.nan])), NPY), (400, "not_finite", "$[1]")),
    (
        "infinity in binary",
        LINE,
        wire.v2_binary(LINE, {"x": np.array([0, np.inf], "f4")}),
        (400, "not_finite", "$.inputs[0].data[1]"),
    ),
    ("unknown category", FLIGHTS, wire.request(FLIGHT.replace(b"UA", b"UB")), (400, "unknown_category", "$.carrier")),
    ("wrong shape", PICTURES, wire.request({"inputs": [[1] * 6] * 5}), (400, "wrong_shape", "$.inputs")),
    ("too deep", PICTURES, wire.request({"inputs": [[[1]] * 6] * 6}), (400, "wrong_type", "$.inputs[0][0]")),
    ("ragged", PICTURES, wire.request({"inputs": [[1] * 6] * 5 + [[1] * 5]}), (400, "wrong_shape", "$.inputs[5]")),
    ("ragged row", MIXED, wire.request({"words": ["a"]}), (400, "wrong_shape", "$.words")),
    ("wrong shape in v2", LINE, wire.request(v2(shape=[1, 2])), (400, "wrong_shape", "$.inputs[0].shape")),
    ("fewer values than the shape says", LINE, wire.request(v2(data=[1])), (400, "wrong_shape", "$.inputs[0].data")),
    ("no instances", LINE, wire.request({"instances": []}), (400, "empty", "$.instances")),
    ("no rows in v2", LINE, wire.request(v2(shape=[0], data=[])), (400, "empty", "$.inputs[0].shape")),
    ("no rows in npy", LINE, wire.request(wire.save(np.zeros(0)), NPY), (400, "empty", "$")),
    ("no body", LINE, wire.request(b""), (400, "empty", "$")),
    ("too many rows", LINE, wire.request({"instances": [{"x": 1}] * 9}), (413, "too_many_rows", "$.instances")),
    ("too many in v2", LINE, wire.request(v2(shape=[9], data=[1] * 9)), (413, "too_many_rows", "$.inputs[0].shape")),
    ("too many in npy", LINE, wire.request(wire.save(np.zeros(9)), NPY), (413, "too_many_rows", "$")),
    ("cut PNG", PICTURES, wire.request(wire.picture(pixels()[0])[:60], PNG), (400, "invalid_image", "body")),
    ("cut JPEG", PICTURES, wire.request(wire.picture(pixels()[0], "jpeg")[:-40], JPEG), (400, "invalid_image", "body")),
    ("no picture", PICTURES, wire.request(b"GIF89a", PNG), (400, "invalid_image", "body")),
    ("no picture in a form", PICTURES, wire.request(b"", FORM, {"file": b"x"}), (400, "invalid_image", "form")),
    ("no gzip", LINE, wire.request(b"{}", content_encoding="gzip"), (400, "invalid_encoding", "content-encoding")),
    ("a bomb of gzip", LINE, wire.request(BOMB, content_encoding="gzip"), (413, "too_large", "content-encoding")),
    ("too many parts", LINE, wire.request(b"", FORM, dict.fromkeys(map(str, range(101)), b"")), TOO_MANY_PARTS),
    ("bomb", PICTURES, wire.request(bomb(5001), PNG), (413, "image_too_large", "body")),
    ("huge bomb", PICTURES, wire.request(bomb(60_000), PNG), (413, "image_too_large", "body")),
    ("wrong datatype", LINE, wire.request(v2(datatype="BOOL")), (400, "wrong_datatype", "$.inputs[0].datatype")),
    ("wrong dtype in npy", LINE, wire.request(wire.save(np.array(["1"])), NPY), (400, "wrong_datatype", "$")),
    ("pickle in npy", LINE, wire.request(wire.save(np.array([None])), NPY), (400, "invalid_npy", "$")),
    (
        "unknown output",
        LINE,
        wire.request(v2(more={"outputs": [{"name": "y"}, {"name": "z"}]})),
        (400, "unknown_output", "$.outputs[1].name"),
    ),
    ("not UTF-8", FLIGHTS, wire.request(FLIGHT.replace(b"UA", b"U\xff")), (400, "invalid_utf8", "$")),
    ("duplicate key", FLIGHTS, wire.request(FLIGHT[:-1] + b', "hour": 5}'), (400, "duplicate_key", "$.hour")),
    ("tensor twice", LINE, wire.request(v2(more={"id": "1"})[:-1] + b',"id":"2"}'), (400, "duplicate_key", "$.id")),
    ("too large for FP32", LINE, wire.request(b'{"x": 1e39}'), (400, "out_of_range", "$.x")),
    ("too large for FP64", LINE, wire.request(b'{"x": 1e999}'), (400, "out_of_range", "$.x")),
    ("too large for INT64", FLIGHTS, wire.request(FLIGHT.replace(b"5", b"5" * 30)), (400, "out_of_range", "$.hour")),
    ("too large for UINT64", MIXED, wire.request(SERIAL + b"}"), (400, "out_of_range", "$.serial")),
    ("nested without end", LINE, wire.request(b'{"a":' * 100_000), (400, "invalid_json", "$")),
    ("parameters without end", LINE, wire.request(v2()[:-1] + DEEP), (400, "invalid_json", "$")),
    ("out of the range", FLIGHTS, wire.request(FLIGHT.replace(b"5", b"24")), (400, "out_of_range", "$.hour")),
    ("no byte", PICTURES, wire.request(BLANK.replace(b"0", b"256", 1)), (400, "out_of_range", "$.inputs[0][0]")),
    (
        "unknown parameter",
        LINE,
        wire.request({"x": 1, "parameters": {"k": 1}}),
        (400, "unknown_field", "$.parameters.k"),
    ),
    ("top_k of a regression", LINE, wire.request({"x": 1}, x_top_k="2"), (400, "invalid_parameter", "x-top-k")),
]


@pytest.mark.parametrize(("model", "asked", "expected"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_told_its_status_code_and_path(
    model: ModelContract, asked: Request, expected: tuple[int, str, str]
) -> None:
    assert wire.fault(serve(model), asked) == expected


def test_every_code_that_an_input_can_get_is_in_the_table() -> None:
    of_text = {
        "unsupported_value",
        "context_length_exceeded",
        "not_found",
        "model_not_found",
        "overloaded",
    }  # asked of a language model
    of_the_host = {  # of a message that never becomes a request, or has no key
        *("invalid_http", "timeout", "head_too_large", "invalid_api_key", "forbidden", "rate_limited")
    }
    elsewhere = {"invalid_tensor", "not_finite_output", "internal", "not_supported", "stopping"} | of_text | of_the_host
    assert {expected[1] for *_, expected in BAD} == set(STATUS) - elsewhere


CONTENT_TYPES = st.sampled_from([JSON, NPY, OCTETS, PNG, JPEG, FORM, LINES, "text/plain", ""]) | st.text(max_size=10)
SMALL = st.integers(-1, 300).map(str) | st.text(max_size=4)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "inference-header-content-length": SMALL,
        "x-top-k": SMALL,
        "accept": st.sampled_from([NPY, JSON, "*/*"]) | st.text(max_size=5),
        "content-encoding": st.sampled_from(["gzip", "identity", ""]),
    },
)
STARTS = st.sampled_from(
    [b"", b"{", b'{"instances":[', b'{"inputs":[', b"\x93NUMPY\x01\x00", b"\x89PNG\r\n\x1a\n", b"\xff\xd8"]
)


def answer(model: ModelContract, asked: Request) -> Response:
    response = serve(model).handle([asked])[0]
    assert response.status == 200 or 400 <= response.status < 500, (asked, response.body)
    # An error may quote the request: Hypothesis tries words of the code itself, ".py" for a content type among them.
    quoted = repr(asked).lower()
    inside = [word for word in wire.INSIDE.findall(response.body) if word.decode().lower() not in quoted]
    assert response.status == 200 or not inside, (asked, response.body)
    return response


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.name)
@settings(max_examples=150)
@given(
    body=st.builds(bytes.__add__, STARTS, st.binary(max_size=80)),
    content_type=CONTENT_TYPES,
    headers=HEADERS,
    form=st.dictionaries(st.sampled_from(["file", "top_k", "{}", ""]), st.binary(max_size=20), max_size=2),
)
def test_arbitrary_bytes_of_any_content_type_get_a_4xx(
    model: ModelContract, body: bytes, content_type: str, headers: dict[str, str], form: dict[str, bytes]
) -> None:
    asked = Request(body, headers | {"content-type": content_type}, form, "r-1")
    assert answer(model, asked).status >= 400


WORDS = st.sampled_from(
    ["instances", "inputs", "outputs", "parameters", "id", "name", "shape", "datatype", "data", "top_k"]
    + ["binary_data_size", "binary_data_output", "binary_data"]
    + sorted({spec.name for model in ALL for spec in model.inputs} | {"y", "probabilities", "UA", "FP32", "INT64"})
)
NUMBERS = st.sampled_from([0, 1, 2, -1, 6, 0.5, 256, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 3.4e38, 1e308])
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS | st.text(max_size=3),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(WORDS, child, max_size=5),
    max_leaves=15,
)


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.name)
@settings(max_examples=200)
@given(tree=st.dictionaries(WORDS, TREES, max_size=5) | TREES, headers=HEADERS)
def test_json_of_the_formats_own_words_gets_an_answer_or_a_4xx(
    model: ModelContract, tree: Any, headers: dict[str, str]
) -> None:
    body = json.dumps(tree).encode()
    answer(model, Request(body, headers | {"content-type": JSON}, {}, "r-1"))


@st.composite
def mutations(draw: st.DrawFn, body: bytes) -> bytes:
    """The bytes with one to three places cut out, doubled or overwritten."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        stop = min(len(body), start + draw(st.integers(0, 8)))
        middle = draw(
            st.sampled_from([b"", body[start:stop] * 2, b"null", b"-1", b"1e99", b'"', b"[", b"}"])
            | st.binary(max_size=4)
        )
        body = body[:start] + middle + body[stop:]
    return body


def valid(model: ModelContract) -> list[Request]:
    requests = [write(model, ROWS[model.name]) for write in wire.WRITERS.values()]
    if model in (PICTURES, COLOURS):
        picture = ROWS[model.name]["pixels"][0]
        requests += [wire.request(wire.picture(picture, kind), f"image/{kind}") for kind in ("png", "jpeg")]
    return requests


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_compressed_body_gets_an_answer_or_a_4xx(coding: str, data: st.DataObject) -> None:
    asked = data.draw(st.sampled_from(valid(LINE)))
    packed = (gzip.compress if coding == "gzip" else zlib.compress)(asked.body)
    headers = {**asked.headers, "content-encoding": coding}
    answer(LINE, asked._replace(body=data.draw(mutations(packed)), headers=headers))


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.name)
def test_a_request_that_ends_early_gets_a_4xx_wherever_it_is_cut(model: ModelContract) -> None:
    for asked in valid(model):
        for end in {*range(0, min(len(asked.body), 200), 3), *np.linspace(0, len(asked.body) - 1, 40, dtype=int)}:
            answer(model, asked._replace(body=asked.body[: int(end)]))


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.name)
def test_what_is_mutated_was_valid(model: ModelContract) -> None:
    assert {answer(model, asked).status for asked in valid(model)} == {200}


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.name)
@settings(max_examples=250)
@given(data=st.data())
def test_a_damaged_request_gets_an_answer_or_a_4xx(model: ModelContract, data: st.DataObject) -> None:
    asked = data.draw(st.sampled_from(valid(model)))
    answer(model, asked._replace(body=data.draw(mutations(asked.body))))


@pytest.mark.parametrize("character", [0xD800, 0x10FFFF + 1, 0x1FFFFF, 2**31 - 1])
def test_a_numpy_string_of_no_character_is_no_text(character: int) -> None:
    row = np.array([(1400, 5, "UA")], [("distance", "f4"), ("hour", "i8"), ("carrier", "U2")])
    body = wire.save(row).replace("UA".encode("utf-32-le"), struct.pack("<II", character, ord("A")))
    assert wire.fault(serve(FLIGHTS), wire.request(body, NPY)) == (400, "invalid_utf8", "$.carrier")
