"""Every format on every route that reaches a handler, on each host that has it."""

import io
import json
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from PIL import Image

from tests.integration.conftest import Server

ANY = [
    "/predictions/{m}",
    "/predictions/{m}/{v}",
    "/predictions/{m}/{v}/v1/any/path",
    "/models/{m}/invoke",
    "/{m}/predict",
]
TORCHSERVES = ["/models/{m}/invoke", "/{m}/predict"]  # not on the other hosts, as docs/operations.md says
OF_V1 = ["/v1/models/{m}:predict", "/predictions/{m}/{v}/v1/models/{m}:predict"]
OF_V2 = ["/v2/models/{m}/infer", "/predictions/{m}/{v}/v2/models/{m}/versions/{v}/infer"]
ROUTES = [*ANY, *OF_V1, *OF_V2]
FLIGHT = {"distance": 1400, "hour": 5, "carrier": "UA", "origin": "EWR", "dest": "IAH"}


@pytest.fixture(scope="module")
def server(either: Server) -> Server:
    """Each host."""
    return either


@pytest.fixture(autouse=True)
def _has_route(server: Server, request: pytest.FixtureRequest) -> None:
    callspec = getattr(request.node, "callspec", None)
    if server.settings.host != "torchserve" and callspec and callspec.params.get("route") in TORCHSERVES:
        pytest.skip("TorchServe alone has such a route")


def post(server: Server, path: str, **request: Any) -> httpx.Response:
    return server.client.post(server.url + path, **request)


@pytest.fixture(scope="module")
def picture(server: Server) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array(server.contract("fashion").example.request["inputs"], np.uint8)


@pytest.mark.parametrize("model", ["linear", "flights", "fashion"])
@pytest.mark.parametrize("route", ANY)
def test_the_contracts_example_is_answered_as_the_contract_says(server: Server, model: str, route: str) -> None:
    contract = server.contract(model)
    response = post(server, route.format(m=model, v=contract.version), json=contract.example.request)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json()["prediction"] == pytest.approx(contract.example.response["prediction"], abs=1e-3)


@pytest.mark.parametrize("route", [*ANY, *OF_V1])
def test_v1_answers_many_rows_in_order(server: Server, route: str) -> None:
    version = server.contract("linear").version
    response = post(server, route.format(m="linear", v=version), json={"instances": [{"x": i} for i in range(10)]})
    assert response.json()["predictions"] == pytest.approx([2 * i for i in range(10)], abs=0.05)


@pytest.mark.parametrize("route", [*ANY, *OF_V2])
def test_v2_answers_named_tensors(server: Server, route: str) -> None:
    tensors = [
        {"name": "distance", "shape": [2], "datatype": "FP32", "data": [1400, 2475]},
        {"name": "hour", "shape": [2], "datatype": "INT64", "data": [5, 18]},
        {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["UA", "DL"]},
        {"name": "origin", "shape": [2], "datatype": "BYTES", "data": ["EWR", "JFK"]},
        {"name": "dest", "shape": [2], "datatype": "BYTES", "data": ["IAH", "LAX"]},
    ]
    contract = server.contract("flights")
    response = post(server, route.format(m="flights", v=contract.version), json={"id": "42", "inputs": tensors})
    body = response.json()
    assert {key: body[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": "flights",
        "model_version": contract.version,
        "id": "42",
    }
    (output,) = body["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("air_time", "FP32", [2])
    alone = post(server, "/predictions/flights", json=FLIGHT).json()["prediction"]
    assert output["data"][0] == alone


@pytest.mark.parametrize("route", [*ANY, *OF_V2])
def test_v2_carries_binary_tensors_both_ways(server: Server, route: str) -> None:
    x = np.array([1, 6], np.float32)
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    path = route.format(m="linear", v=server.contract("linear").version)
    response = post(server, path, content=head + x.tobytes(), headers=headers)
    assert response.status_code == 200, response.text
    length = int(response.headers["Inference-Header-Content-Length"])
    output = json.loads(response.content[:length])["outputs"][0]
    assert output["parameters"]["binary_data_size"] == 8
    assert np.frombuffer(response.content[length:], "<f4") == pytest.approx([2, 12], abs=0.05)


BODIES: dict[str, Any] = {
    "native": {"x": 6},
    "v1": {"instances": [{"x": 6}]},
    "v2": {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [6]}]},
}


@pytest.mark.parametrize("protocol", BODIES)
@pytest.mark.parametrize("route", [*OF_V1, *OF_V2])
def test_a_url_that_names_a_protocol_refuses_every_other_in_its_form(server: Server, route: str, protocol: str) -> None:
    path = route.format(m="linear", v=server.contract("linear").version)
    response = post(server, path, json=BODIES[protocol], headers={"url_path": "", "explain": "False"})
    if (protocol, route) in {*(("v1", one) for one in OF_V1), *(("v2", one) for one in OF_V2)}:
        assert response.status_code == 200
        return
    assert response.status_code == 400
    assert isinstance(response.json()["error"], str)
    assert response.json()["code"] == "missing_field"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_a_raw_picture_is_answered_with_label_and_probability(
    server: Server, picture: np.ndarray[Any, Any], route: str, encoding: str
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, encoding)
    path = route.format(m="fashion", v=server.contract("fashion").version)
    response = post(server, path, content=buffer.getvalue(), headers={"Content-Type": f"image/{encoding}"})
    prediction = response.json()["prediction"]
    assert set(prediction) == {"label", "index", "probability"}
    if encoding == "png":  # lossless: exactly what the same pixels give as JSON
        as_json = post(server, "/predictions/fashion", json={"inputs": picture.tolist()})
        assert prediction == as_json.json()["prediction"]


@pytest.mark.parametrize("route", ROUTES)
def test_a_form_with_a_picture_is_answered(server: Server, picture: np.ndarray[Any, Any], route: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    path = route.format(m="fashion", v=server.contract("fashion").version)
    response = post(server, path, files={"file": ("boot.png", buffer.getvalue(), "image/png")}, data={"top_k": "3"})
    ranked = response.json()["prediction"]["top_k"]
    assert [one["probability"] for one in ranked] == sorted((one["probability"] for one in ranked), reverse=True)
    assert len(ranked) == 3


@pytest.mark.parametrize("route", ROUTES)
def test_numpy_is_answered_as_json_or_numpy(server: Server, picture: np.ndarray[Any, Any], route: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.stack([picture, 255 - picture]))
    path = route.format(m="fashion", v=server.contract("fashion").version)
    headers = {"Content-Type": "application/x-npy"}
    answers = post(server, path, content=buffer.getvalue(), headers=headers).json()["predictions"]
    response = post(server, path, content=buffer.getvalue(), headers=headers | {"Accept": "application/x-npy"})
    assert response.headers["content-type"] == "application/x-npy"
    probabilities = np.load(io.BytesIO(response.content))
    assert probabilities.shape == (2, 10)
    assert [one["index"] for one in answers] == probabilities.argmax(1).tolist()


def test_the_top_k_classes_are_asked_for_in_the_body_or_in_a_header(
    server: Server, picture: np.ndarray[Any, Any]
) -> None:
    body = {"inputs": picture.tolist()}
    in_body = post(server, "/predictions/fashion", json=body | {"parameters": {"top_k": 2}}).json()
    in_header = post(server, "/predictions/fashion", json=body, headers={"X-Top-K": "2"}).json()
    assert in_body == in_header
    assert in_body["prediction"]["top_k"][0]["label"] == in_body["prediction"]["label"]


def test_the_request_id_of_an_error_is_that_of_the_response(server: Server) -> None:
    response = post(server, "/predictions/linear", json={"x": "six"})
    error = msgspec.json.decode(response.content)["error"]
    assert response.status_code == 400
    assert error["request_id"] == response.headers["x-request-id"]
