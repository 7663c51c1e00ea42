"""The routes of KServe's protocols: the URL decides, and what is asked by GET is answered from the contract."""

from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from handlers.contract import TensorSpec
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.http import kserve
from handlers.message import Request, error_detail
from handlers.observe.telemetry import Telemetry
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, MAX_ROWS, PICTURES, Formula, contract, pixels, serve

# What TorchServe sets on each kind of route.
PREDICTIONS = {"explain": "False", "url_path": ""}
EITHER = {"explain": "False"}
LEGACY: dict[str, str] = {}
V1 = EITHER | {"url_path": "v1/models/line:predict"}
V2 = EITHER | {"url_path": "v2/models/line/infer"}
VERSIONED = EITHER | {"url_path": "v2/models/line/versions/1.2/infer"}
BODIES: dict[str, Any] = {
    "native": {"x": 1},
    "v1": {"instances": [{"x": 1}]},
    "v2": {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]},
}


def sent(body: Any, headers: dict[str, str]) -> Request:
    return wire.request(body)._replace(headers={"content-type": "application/json"} | headers)


def get(path: str, body: bytes = b"") -> Request:
    return Request(body, EITHER | {"url_path": path}, {}, "r-1")


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        (PREDICTIONS, {"native", "v1", "v2"}),
        (LEGACY, {"native", "v1", "v2"}),
        (PREDICTIONS | {"url_path": "any/path"}, {"native", "v1", "v2"}),
        (EITHER, {"v1", "v2"}),
        (V1, {"v1"}),
        (V2, {"v2"}),
        (VERSIONED, {"v2"}),
        ({"explain": "v1"}, {"v1"}),
        ({"explain": "v2"}, {"v2"}),
    ],
)
def test_a_url_that_names_a_protocol_takes_no_other(headers: dict[str, str], answered: set[str]) -> None:
    for protocol, body in BODIES.items():
        response = serve(LINE).handle([sent(body, headers)])[0]
        assert response.status == (200 if protocol in answered else 400), (protocol, response.body)
        if protocol not in answered:
            refusal = orjson.loads(response.body)
            assert (refusal["code"], refusal["path"]) == ("missing_field", "$")
            assert all(f'"{word}"' in refusal["error"] for word in _words(answered))


@pytest.mark.parametrize("headers", [V1, {"explain": "v1"}])
def test_a_binary_body_is_none_of_v1(headers: dict[str, str]) -> None:
    asked = wire.v2_binary(LINE, {"x": np.array([1], "f4")})
    asked = asked._replace(headers={**asked.headers, **headers})
    assert wire.fault(serve(LINE), asked) == (400, "missing_field", "$")
    assert isinstance(orjson.loads(serve(LINE).handle([asked])[0].body)["error"], str)


def _words(protocols: set[str]) -> set[str]:
    return {"v1": {"instances"}, "v2": {"inputs"}}.get("".join(protocols), {"instances", "inputs"})


def test_what_looks_like_a_member_is_none_and_what_is_one_may_be_written_otherwise() -> None:
    text = contract(TensorSpec("text", "BYTES"), name="text")
    for value in ("inputs", "instances"):
        assert wire.fault(serve(text), sent({"text": value}, EITHER))[1] == "missing_field"
    for headers in (EITHER, V2):
        written = wire.dumps(BODIES["v2"]).replace(b"inputs", b"in\\u0070uts")
        assert "outputs" in wire.ask(serve(LINE), sent(written, headers))


@pytest.mark.parametrize("headers", [EITHER, V1, V2])
@pytest.mark.parametrize(
    "asked",
    [
        wire.request(b""),
        wire.request(b"{"),
        wire.request(b"[]"),
        wire.request(b"\xff"),
        wire.request(b"x", "text/plain"),
        wire.request(b"x", "application/x-npy"),
        wire.request({"instances": []}),
        wire.request({"instances": [{"x": 1}] * (MAX_ROWS + 1)}),
        wire.request({"inputs": []}),
        wire.request(BODIES["v1"], explain="True"),
    ],
)
def test_on_such_a_url_every_error_is_a_text(headers: dict[str, str], asked: Request) -> None:
    response = serve(LINE).handle([asked._replace(headers={**headers, **asked.headers})])[0]
    assert 400 <= response.status <= 501
    body = orjson.loads(response.body)
    assert isinstance(body["error"], str)
    assert error_detail(body).keys() >= {"code", "message", "path", "expected", "request_id"}


def test_a_model_of_one_array_is_not_asked_natively_there() -> None:
    asked = sent({"inputs": pixels()[0]}, EITHER)
    assert wire.fault(serve(PICTURES), asked)[:2] == (400, "wrong_type")
    assert "predictions" in wire.ask(serve(PICTURES), sent({"instances": pixels()}, EITHER))


def test_an_engine_that_fails_is_told_in_the_protocols_form() -> None:
    class Failing:
        def run(self, tensors: Any) -> Any:
            raise RuntimeError("out of order")

    responses = serve(LINE, Failing()).handle([sent(body, PREDICTIONS) for body in BODIES.values()])
    assert [response.status for response in responses] == [500] * 3
    assert [type(orjson.loads(response.body)["error"]) for response in responses] == [dict, str, str]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("v2", {"name": "marloop", "version": "1", "extensions": ["binary_tensor_data", "classification"]}),
        ("v2/health/live", {"live": True}),
        ("v2/health/ready", {"ready": True}),
        ("v2/models/line/ready", {"name": "line", "ready": True}),
        ("v2/models/line/versions/1.2/ready", {"name": "line", "ready": True}),
        ("v1/models", {"models": ["line"]}),
        ("v1/models/line", {"name": "line", "ready": True}),
        (
            "v2/models/line",
            {
                "name": "line",
                "versions": ["1.2"],
                "platform": "marloop",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
            },
        ),
    ],
)
def test_what_is_asked_by_get_is_answered_from_the_contract(path: str, expected: Any) -> None:
    assert wire.ask(serve(LINE), get(path)) == expected


@pytest.mark.parametrize(
    "path",
    ["v2/models/other", "v2/models/other/infer", "v1/models/other:predict", "v2/models/line/versions/2/infer"],
)
def test_another_model_is_not_found_in_the_protocols_form(path: str) -> None:
    response = serve(LINE).handle([get(path, wire.dumps(BODIES["v2"]))])[0]
    assert response.status == 404
    assert orjson.loads(response.body)["code"] == "not_found"


def test_the_name_by_which_a_copy_is_served_is_its_name_too() -> None:
    handler = serve(LINE)
    handler._codec.names = frozenset({"line-new"})
    assert wire.ask(handler, get("v2/models/line-new/ready")) == {"name": "line-new", "ready": True}
    assert wire.ask(handler, wire.request(BODIES["v2"] | {"model_name": "line-new"}))["model_name"] == "line"


def test_such_an_answer_is_counted_as_every_other() -> None:
    registry = CollectorRegistry()
    codec = Codec(LINE, MAX_ROWS)
    handler = ModelHandler(LINE, Formula(LINE), codec, [Telemetry(LINE, codec.protocol, registry)])
    handler.handle([get("v2/models/line"), sent(BODIES["v2"], PREDICTIONS), get("v1/models")])
    names = {"model": "line", "version": "1.2", "code": "200"}
    assert registry.get_sample_value("model_requests_total", names | {"protocol": "v2"}) == 2
    assert registry.get_sample_value("model_requests_total", names | {"protocol": "v1"}) == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ""),
        (PREDICTIONS, ""),
        (EITHER, kserve.EITHER),
        (V1, "v1"),
        (V2, "v2"),
        ({"explain": "v1"}, "v1"),
        ({"explain": "v2", "url_path": "sent by the client"}, "v2"),
        ({"explain": "True"}, kserve.EITHER),
        ({"url_path": "v2/models/a/b/infer"}, ""),
        ({"url_path": "v2/models/line:predict"}, ""),
        ({"url_path": "v1/models/line/infer"}, ""),
        ({"url_path": "v1/chat/completions"}, ""),
    ],
)
def test_a_path_names_a_protocol_only_where_it_is_one_of_its_routes(headers: dict[str, str], expected: str) -> None:
    assert kserve.route(headers) == expected
