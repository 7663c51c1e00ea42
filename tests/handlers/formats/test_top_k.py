"""How many classes a request asks for: in its parameters, in a header, in a form or query."""

import numpy as np
import pytest

from handlers.formats.answers import output_arrays, row_answers
from handlers.message import JSON, NPY, Part
from tests.support.handlers import wire
from tests.support.handlers.models import COLOURS, FLIGHTS, PICTURES, pixels, serve

ROW = {"distance": 1400, "hour": 5, "carrier": "UA"}
ASKED = {"inputs": pixels()[0]}


def test_one_class_is_told_where_nothing_is_asked() -> None:
    assert set(wire.ask(serve(PICTURES), wire.request(ASKED))["prediction"]) == {
        "label",
        "index",
        "probability",
    }


@pytest.mark.parametrize("k", [2, 3, 4])
def test_parameters_and_header_mean_the_same(k: int) -> None:
    handler = serve(PICTURES)
    by_parameter = wire.ask(handler, wire.request(ASKED | {"parameters": {"top_k": k}}))
    assert len(by_parameter["prediction"]["top_k"]) == k
    assert wire.ask(handler, wire.request(ASKED, x_top_k=str(k))) == by_parameter
    rows = {"instances": [ASKED["inputs"]]}
    assert wire.ask(handler, wire.request(rows, x_top_k=str(k)))["predictions"] == [by_parameter["prediction"]]
    in_numpy = wire.request(wire.save(pixels()), NPY, x_top_k=str(k))
    assert wire.ask(handler, in_numpy)["predictions"] == [by_parameter["prediction"]]
    query = wire.request(ASKED, JSON, {"top_k": str(k).encode()})
    assert wire.ask(handler, query) == by_parameter


def test_parameters_go_before_the_header() -> None:
    asked = wire.request(ASKED | {"parameters": {"top_k": 3}}, x_top_k="2")
    assert len(wire.ask(serve(PICTURES), asked)["prediction"]["top_k"]) == 3


@pytest.mark.parametrize("k", [-1, 0, 5, 10**9, 10**30])
def test_the_parameter_is_from_one_to_the_number_of_labels(k: int) -> None:
    body = wire.dumps({"parameters": {"top_k": 1111}} | ASKED).replace(b"1111", str(k).encode())
    error = wire.refusal(serve(PICTURES), wire.request(body))
    assert (error["status"], error["path"]) == ("400", "$.parameters.top_k")
    assert error["code"] == "invalid_parameter"
    assert error["expected"] == "an integer from 1 to 4"


@pytest.mark.parametrize("text", ["0", "5", "-1", "+1", "1.0", " 1", "", "two", "٣", "1" * 5000])
def test_the_header_is_from_one_to_the_number_of_labels(text: str) -> None:
    assert wire.fault(serve(PICTURES), wire.request(ASKED, x_top_k=text)) == (
        400,
        "invalid_parameter",
        "x-top-k",
    )


@pytest.mark.parametrize("value", ['"2"', "2.5", "[2]", "true"])
def test_the_parameter_is_an_integer(value: str) -> None:
    body = wire.dumps({"parameters": {"top_k": 1111}} | ASKED).replace(b"1111", value.encode())
    assert wire.fault(serve(PICTURES), wire.request(body)) == (400, "wrong_type", "$.parameters.top_k")


def test_a_model_without_labels_has_none() -> None:
    handler = serve(FLIGHTS)
    in_body = wire.request(ROW | {"parameters": {"top_k": 2}})
    assert wire.fault(handler, in_body) == (400, "invalid_parameter", "$.parameters.top_k")
    assert wire.fault(handler, wire.request(ROW, x_top_k="2")) == (400, "invalid_parameter", "x-top-k")


def test_two_labels_allow_two() -> None:
    rows = {"instances": np.zeros((1, *COLOURS.inputs[0].shape[1:]), np.uint8)}
    assert len(wire.ask(serve(COLOURS), wire.request(rows, x_top_k="2"))["predictions"][0]["top_k"]) == 2


@pytest.mark.parametrize("k", [1, 2])
def test_of_equal_probabilities_the_first_label_goes_first(k: int) -> None:
    outputs = {"probabilities": np.array([[0.2, 0.4, 0.4, 0]], np.float32)}
    assert row_answers(PICTURES, outputs, k)[0]["label"] == "boot"
    assert output_arrays(PICTURES, outputs, k)["index"].tolist() == [[1, 2][:k]]


def test_v2_takes_top_k_from_a_header_too() -> None:
    handler = serve(PICTURES)
    asked = wire.v2(PICTURES, {"pixels": pixels()})
    asked = asked._replace(headers={**asked.headers, "x-top-k": "3"})
    outputs = {output["name"]: output for output in wire.ask(handler, asked)["outputs"]}
    assert outputs["label"]["shape"] == [1, 3]


@pytest.mark.parametrize("names", [("topk",), ("top_k", "verbose"), ("top_k", "top_k"), ("Top_K",)])
def test_a_query_parameter_that_would_be_ignored_is_refused(names: tuple[str, ...]) -> None:
    asked = wire.request(ASKED)
    parts = tuple(Part(name, b"2") for name in names)
    asked = asked._replace(form={part.name: part.body for part in parts}, parts=parts)
    assert wire.fault(serve(PICTURES), asked) == (400, "invalid_parameter", "query")


def test_the_model_may_be_named_in_the_query() -> None:
    assert wire.ask(serve(PICTURES), wire.request(ASKED, JSON, {"model_name": b"pictures"}))


def test_a_whole_float_is_a_number_of_classes_too() -> None:
    for body in (ASKED, {"instances": pixels()}):
        found = wire.ask(serve(PICTURES), wire.request(body | {"parameters": {"top_k": 2.0}}))
        assert found == wire.ask(serve(PICTURES), wire.request(body | {"parameters": {"top_k": 2}}))
