"""Bad input gets a clear 4xx and harms nobody else, on each host.

That no worker was killed or restarted is checked once, when the session's server stops.
"""

import asyncio
import io
import random
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from handlers.message import error_detail
from tests.integration.conftest import Server

JSON = "application/json"
FLIGHT = b'{"distance": 1400, "hour": 5, "carrier": "UA", "origin": "EWR", "dest": "IAH"}'
V2 = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "outputs": [{"name": "z"}]}'
V2_DTYPE = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "BOOL", "data": [1]}]}'


@pytest.fixture(scope="module")
def server(either: Server) -> Server:
    """Each host."""
    return either


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "png")
    return buffer.getvalue()


BAD = [
    ("linear", b"{", JSON, 400, "invalid_json", "$"),
    ("linear", b"", JSON, 400, "empty", "$"),
    ("linear", b'{"x": 6}', "text/plain", 415, "unsupported_media_type", "content-type"),
    ("linear", b'{"x": 6}', "application/x-www-form-urlencoded", 415, "unsupported_media_type", "content-type"),
    ("linear", b"{}", JSON, 400, "missing_field", "$.x"),
    ("linear", b'{"x": 6, "y": 1}', JSON, 400, "unknown_field", "$.y"),
    ("linear", b'{"x": null}', JSON, 400, "wrong_type", "$.x"),
    ("linear", b'{"x": "6"}', JSON, 400, "wrong_type", "$.x"),
    ("linear", b'{"x": NaN}', JSON, 400, "not_finite", "$"),
    ("linear", b'{"x": -Infinity}', JSON, 400, "not_finite", "$"),
    ("linear", b'{"x": 1e39}', JSON, 400, "out_of_range", "$.x"),
    ("linear", b'{"x": 1, "x": 2}', JSON, 400, "duplicate_key", "$.x"),
    ("linear", b'{"x": "\xff"}', JSON, 400, "invalid_utf8", "$"),
    ("linear", b'{"instances": []}', JSON, 400, "empty", "$.instances"),
    ("linear", b'{"instances": [' + b",".join([b'{"x": 1}'] * 1025) + b"]}", JSON, 413, "too_many_rows", "$.instances"),
    ("linear", V2, JSON, 400, "unknown_output", "$.outputs[0].name"),
    ("linear", V2_DTYPE, JSON, 400, "wrong_datatype", "$.inputs[0].datatype"),
    ("linear", b"\x93NUMPY\x01\x00garbage", "application/x-npy", 400, "invalid_npy", "$"),
    ("flights", FLIGHT.replace(b"UA", b"UU"), JSON, 400, "unknown_category", "$.carrier"),
    ("flights", FLIGHT.replace(b": 5", b": 24"), JSON, 400, "out_of_range", "$.hour"),
    ("flights", FLIGHT.replace(b": 5", b": 99999999999999999999999"), JSON, 400, "out_of_range", "$.hour"),
    ("fashion", b'{"inputs": [[0, 1], [2]]}', JSON, 400, "wrong_shape", "$.inputs[0]"),
    ("fashion", png(28, 28)[:50], "image/png", 400, "invalid_image", "body"),
    ("fashion", b"no picture", "image/jpeg", 400, "invalid_image", "body"),
    ("fashion", png(9000, 9000), "image/png", 413, "image_too_large", "body"),
]


@pytest.mark.parametrize(("model", "body", "content_type", "status", "code", "path"), BAD)
def test_bad_input_gets_its_own_clear_error(
    server: Server, model: str, body: bytes, content_type: str, status: int, code: str, path: str
) -> None:
    url = f"{server.url}/predictions/{model}"
    response = server.client.post(url, content=body, headers={"Content-Type": content_type})
    error = error_detail(response.json())
    assert set(error) == {"code", "message", "path", "expected", "request_id"}
    assert (response.status_code, error["code"], error["path"]) == (status, code, path)
    assert error["message"]
    assert error["expected"]


def test_an_unknown_category_is_told_the_closest(server: Server) -> None:
    body = FLIGHT.replace(b"IAH", b"IAHH")
    response = server.client.post(f"{server.url}/predictions/flights", content=body, headers={"Content-Type": JSON})
    assert "IAH" in response.json()["error"]["expected"]


def test_a_body_over_the_limit_is_413(server: Server) -> None:
    body = b" " * 6_600_000
    response = server.client.post(f"{server.url}/predictions/linear", content=body, headers={"Content-Type": JSON})
    assert response.status_code == 413


def test_in_a_mixed_crowd_each_good_request_gets_exactly_the_answer_that_it_gets_alone(server: Server) -> None:
    url = f"{server.url}/predictions/flights"
    chance = random.Random(0)
    good = [FLIGHT.replace(b"1400", str(chance.randint(100, 4000)).encode()) for _ in range(200)]
    bad = [b"{", b'{"x": 1}', FLIGHT.replace(b"UA", b"??"), b"\xff", b'{"instances": []}']
    headers = {"Content-Type": JSON}
    alone = [server.client.post(url, content=body, headers=headers).content for body in good]
    crowd = [(body, i) for i, body in enumerate(good)] + [(body, None) for body in bad for _ in range(40)]
    chance.shuffle(crowd)

    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            return await asyncio.gather(*(client.post(url, content=body, headers=headers) for body, _ in crowd))

    for (_, i), response in zip(crowd, asyncio.run(ask_all()), strict=True):
        if i is None:
            assert response.status_code == 400
        else:
            assert (response.status_code, response.content) == (200, alone[i])


@pytest.mark.parametrize("model", ["linear", "flights", "fashion"])
def test_random_bytes_in_every_content_type_get_a_4xx(server: Server, model: str) -> None:
    chance = np.random.default_rng(0)
    types = [JSON, "application/x-npy", "application/octet-stream", "image/png", "multipart/form-data", "x", ""]
    for i in range(140):
        body = chance.bytes(int(chance.integers(1, 200)))
        headers: dict[str, Any] = {"Content-Type": types[i % len(types)]}
        if i % 3 == 0:
            headers["Inference-Header-Content-Length"] = str(chance.integers(-5, 300))
        response = server.client.post(f"{server.url}/predictions/{model}", content=body, headers=headers)
        assert 400 <= response.status_code < 500, (headers, body, response.text)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Strange": b"\xff\xfe"},
        {"X-Long": b"a" * 6000},
        {"Accept": b"\x80"},
        {"traceparent": b"zz-zz"},
        {"Content-Length-Of-Something": b"-1"},
    ],
)
def test_strange_headers_harm_nobody(server: Server, headers: dict[str, bytes]) -> None:
    url = f"{server.url}/predictions/linear"
    pairs = [(name.encode(), value) for name, value in headers.items()]
    response = server.client.post(url, content=b'{"x": 6}', headers=[(b"Content-Type", b"application/json"), *pairs])
    assert response.status_code == 200
    assert response.json()["prediction"] == pytest.approx(12, abs=0.05)


def test_an_unknown_model_is_404(server: Server) -> None:
    assert server.client.post(f"{server.url}/predictions/nobody", json={"x": 6}).status_code == 404
