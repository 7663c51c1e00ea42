"""Which format a request is in, and that every format carries every array unchanged."""

import numpy as np
import pytest
from hypothesis import given, settings

from handlers.contract import Array, ModelContract
from handlers.formats.codec import Codec
from handlers.message import JSON, NPY, OCTETS, Request
from tests.support.handlers import wire
from tests.support.handlers.models import FLIGHTS, LINE, MAX_ROWS, PICTURES, pixels, serve
from tests.support.handlers.strategies import requests

ROW = {"distance": 1400, "hour": 5, "carrier": "UA"}
FLIGHT = {"distance": np.array([1400], "f4"), "hour": np.array([5]), "carrier": np.array(["UA"], object)}


@pytest.mark.parametrize("write", wire.WRITERS.values(), ids=wire.WRITERS.keys())
@settings(max_examples=120)
@given(asked=requests())
def test_every_format_carries_every_array_unchanged(
    write: wire.Writer, asked: tuple[ModelContract, dict[str, Array]]
) -> None:
    model, tensors = asked
    if write is wire.native:
        tensors = {name: array[:1] for name, array in tensors.items()}
    decoded = Codec(model, MAX_ROWS).decode(write(model, tensors))
    assert decoded.rows == len(next(iter(tensors.values())))
    assert list(decoded.tensors) == [spec.name for spec in model.inputs]
    for spec in model.inputs:
        expected = tensors[spec.name]
        if spec.categories:
            expected = np.array([-1 if value is None else spec.categories.index(value) for value in expected])
        assert wire.same(decoded.tensors[spec.name], expected)


@pytest.mark.parametrize(("name", "protocol"), [*((n, n) for n in ("native", "v1", "v2", "npy")), ("v2 binary", "v2")])
def test_a_decoded_request_names_its_protocol(name: str, protocol: str) -> None:
    assert Codec(FLIGHTS, MAX_ROWS).decode(wire.WRITERS[name](FLIGHTS, FLIGHT)).protocol == protocol


def test_the_same_row_gets_the_same_number_in_every_format() -> None:
    handler = serve(FLIGHTS)
    answer = wire.ask(handler, wire.native(FLIGHTS, FLIGHT))["prediction"]
    assert wire.ask(handler, wire.v1(FLIGHTS, FLIGHT)) == {"predictions": [answer]}
    assert wire.ask(handler, wire.npy(FLIGHTS, FLIGHT)) == {"predictions": [answer]}
    for write in (wire.v2, wire.v2_binary):
        assert wire.ask(handler, write(FLIGHTS, FLIGHT))["outputs"][0]["data"] == [answer]


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "Application/JSON", ""])
def test_json_is_read_whatever_the_spelling_of_its_content_type(content_type: str) -> None:
    assert "prediction" in wire.ask(serve(FLIGHTS), wire.request(ROW, content_type))


def test_a_body_without_content_type_is_told_by_its_first_bytes() -> None:
    handler = serve(PICTURES)
    shown = pixels()
    answer = wire.ask(handler, wire.request({"inputs": shown[0]}, ""))["prediction"]
    assert wire.ask(handler, wire.request(b" \n" + wire.dumps({"inputs": shown[0]}), ""))["prediction"] == answer
    assert wire.ask(handler, wire.request(wire.picture(shown[0]), ""))["prediction"] == answer
    assert wire.ask(handler, wire.request(wire.save(shown), ""))["predictions"] == [answer]
    assert "prediction" in wire.ask(handler, wire.request(wire.picture(shown[0], "jpeg"), ""))
    assert "prediction" in wire.ask(handler, Request(wire.dumps({"inputs": shown[0]}), {}))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (wire.request(ROW, "text/plain"), (415, "unsupported_media_type", "content-type")),
        (wire.request(ROW, OCTETS), (415, "unsupported_media_type", "content-type")),
        (wire.request(b"image", "image/png"), (415, "unsupported_media_type", "content-type")),
        (wire.request(b"no format", ""), (415, "unsupported_media_type", "content-type")),
        (wire.request(ROW, JSON, content_encoding="br"), (415, "unsupported_media_type", "content-encoding")),
        (wire.request(ROW, JSON, explain="True"), (501, "not_supported", "$")),
        (wire.request(b"", JSON), (400, "empty", "$")),
        (wire.request(b"", ""), (400, "empty", "$")),
        (wire.request(b"", NPY), (400, "empty", "$")),
    ],
)
def test_a_request_in_no_format_is_refused(asked: Request, expected: tuple[int, str, str]) -> None:
    assert wire.fault(serve(FLIGHTS), asked) == expected


def test_the_formats_that_are_accepted_are_listed() -> None:
    assert wire.refusal(serve(FLIGHTS), wire.request(b"x", "text/plain"))["expected"] == (
        "application/json, application/x-npy, application/octet-stream (v2 binary)"
    )
    assert "image/png" in wire.refusal(serve(PICTURES), wire.request(b"x", "text/plain"))["expected"]


@pytest.mark.parametrize("form", [{}, {'{"x": 6}': b""}])
def test_json_that_arrives_as_a_form_is_told_which_header_is_missing(form: dict[str, bytes]) -> None:
    error = wire.refusal(serve(LINE), wire.request(b"", "application/x-www-form-urlencoded", form))
    assert (error["status"], error["code"]) == ("415", "unsupported_media_type")
    assert "Content-Type: application/json" in error["message"]


@pytest.mark.parametrize("accept", [NPY, f"{NPY}, application/json;q=0.5"])
def test_numpy_is_answered_in_numpy_where_the_client_accepts_it(accept: str) -> None:
    handler = serve(PICTURES)
    body = wire.save(pixels(rows=3))
    response = handler.handle([wire.request(body, NPY, accept=accept)])[0]
    assert (response.status, response.content_type) == (200, NPY)
    array = wire.load(response.body)
    assert array.shape == (3, 4)
    assert array.dtype == np.float32
    answers = wire.ask(handler, wire.request(body, NPY))["predictions"]
    assert [answer["index"] for answer in answers] == array.argmax(1).tolist()
    assert [np.float32(answer["probability"]) for answer in answers] == array.max(1).tolist()


@pytest.mark.parametrize("accept", ["", "*/*", JSON])
def test_numpy_is_answered_in_json_elsewhere(accept: str) -> None:
    response = serve(PICTURES).handle([wire.request(wire.save(pixels()), NPY, accept=accept)])[0]
    assert (response.status, response.content_type) == (200, JSON)


def test_a_refusal_is_json_even_where_numpy_is_accepted() -> None:
    assert wire.fault(serve(PICTURES), wire.request(b"x", NPY, accept=NPY)) == (400, "invalid_npy", "$")
