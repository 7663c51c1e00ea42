"""An answer with the right code and a wrong content is found out."""

from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract import ModelContract, TensorSpec
from loadtests.requests import draws, payloads
from loadtests.requests.answers import complaint
from loadtests.requests.faults import faults
from loadtests.requests.payloads import Payload
from tests.support.loadtests.models import flights, pictures, respond, serve


def asked(model: ModelContract, protocol: str, top_k: int = 1) -> tuple[Payload, dict[str, Any]]:
    """A request of one row, and its right answer."""
    tensors = draws.plausible(model, np.random.default_rng(0), 1)
    payload = payloads.payload_of(model, "valid", protocol, tensors, top_k)
    body: dict[str, Any] = msgspec.json.decode(respond(serve(model), payload).body)
    assert found(model, payload, body) == ""
    return payload, body


def found(model: ModelContract, payload: Payload, body: Any, status: int = 200) -> str:
    return complaint(model, payload, status, msgspec.json.encode(body))


@pytest.mark.parametrize("value", [None, "12", [], {"label": "boot"}])
def test_a_regression_must_answer_a_finite_number(value: Any) -> None:
    payload, _ = asked(flights(), "native")
    assert found(flights(), payload, {"prediction": value}) == "a prediction is no finite number"


def test_a_regression_of_several_targets_must_answer_each() -> None:
    several = msgspec.structs.replace(flights(), outputs=(TensorSpec("delay", "FP32"), TensorSpec("fuel", "FP32")))
    payload, _ = asked(flights(), "native")
    assert found(several, payload, {"prediction": {"delay": 1.0, "fuel": 2.0}}) == ""
    for wrong in (1.0, {"delay": 1.0}, {"delay": 1.0, "fuel": None}, {"delay": 1.0, "fuel": 2.0, "more": 3.0}):
        assert found(several, payload, {"prediction": wrong}) == "a prediction lacks a target, or is no finite number"


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("protocol", ["v1", "npy"])
def test_there_must_be_one_prediction_a_row(protocol: str, count: int) -> None:
    payload, body = asked(flights(), protocol)
    assert found(flights(), payload, {"predictions": body["predictions"] * count}) == "not one prediction a row"


@pytest.mark.parametrize(
    "change", [{"label": "hat"}, {"label": "other"}, {"index": 3}, {"probability": 1.5}, {"probability": None}]
)
def test_a_class_must_be_one_of_the_contract_with_a_probability(change: dict[str, Any]) -> None:
    payload, body = asked(pictures(), "native")
    body["prediction"] |= change
    assert found(pictures(), payload, body) == "no label of the contract, or no probability"


def test_as_many_classes_must_come_as_were_asked_for() -> None:
    payload, body = asked(pictures(), "v1", top_k=3)
    body["predictions"][0]["top_k"].pop()
    assert found(pictures(), payload, body) == "not top_k classes a row"


@pytest.mark.parametrize(
    ("output", "change", "text"),
    [
        ("label", {"data": ["hat"]}, "no label of the contract"),
        ("probability", {"data": [None]}, "an output is no finite number"),
        ("index", {"shape": [2, 1]}, "an output has another shape than the request's rows"),
        ("index", {"name": "other"}, "not every output of the contract"),
    ],
)
def test_every_output_of_v2_must_be_there_with_its_rows(output: str, change: dict[str, Any], text: str) -> None:
    payload, body = asked(pictures(), "v2")
    next(one for one in body["outputs"] if one["name"] == output).update(change)
    assert found(pictures(), payload, body) == text


def test_another_status_is_named() -> None:
    payload, body = asked(flights(), "native")
    assert found(flights(), payload, body, status=500) == "status 500 instead of 200"


def test_the_example_must_get_the_contracts_numbers() -> None:
    model = flights()
    wrong = {"prediction": model.example.response["prediction"] + 1}
    assert found(model, payloads.example(model), wrong) == "the contract's example has another answer"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"12"])
def test_a_body_that_is_no_object_is_found_out(body: bytes) -> None:
    payload, _ = asked(flights(), "native")
    assert complaint(flights(), payload, 200, body).startswith("the body is no ")


def test_a_refusal_must_have_its_status_and_its_code() -> None:
    payload = faults(flights(), np.random.default_rng(0))[0]
    assert found(flights(), payload, {"error": {"code": "invalid_json"}}, 400) == ""
    assert found(flights(), payload, {"error": {"code": "empty"}}, 400) == "error code empty instead of invalid_json"
    as_text = {"error": "not JSON at $; expected: a JSON object", "code": "invalid_json", "path": "$"}
    assert found(flights(), payload, as_text, 400) == ""
    assert found(flights(), payload, {"prediction": 1.0}, 200) == "status 200 instead of 400"
    assert found(flights(), payload, {"code": 400}, 400) == "error code None instead of invalid_json"
