"""Compression both ways: bodies are read as what they hold, and answers are compressed where that is asked for."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from handlers.http.content_encoding import ZSTD
from handlers.message import MAX_BODY, Response
from serving.hosts.direct.http import compression
from serving.hosts.direct.http.bodies import INLINE
from tests.serving.hosts.direct.test_app import ROW, World

LARGE = "/openapi.json"
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}
if ZSTD:
    PACKERS["zstd"] = ZSTD.compress


@pytest.fixture
def world() -> World:
    return World()


class Process:
    """Stands for the process of a language model, and notes what it was passed."""

    def __init__(self) -> None:
        self.bodies: list[tuple[bytes, dict[str, str]]] = []

    async def forward(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        self.bodies.append((body, {name.decode(): value.decode() for name, value in scope["headers"]}))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def talk(path: str, content: bytes, coding: str) -> tuple[httpx.Response, Process]:
    world, process = World(), Process()
    world.elsewhere = {"talk": {}}
    world.process = process
    return world.ask("POST", path, content=content, headers={"content-encoding": coding}), process


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("path", PATHS)
def test_a_compressed_request_finds_its_language_model_and_reaches_it_plain(path: str, coding: str) -> None:
    body = json.dumps({"model": "talk", "messages": ["a" * 5 * INLINE]}).encode()
    response, process = talk(path, PACKERS[coding](body), coding)
    assert response.status_code == 200
    ((passed, headers),) = process.bodies
    assert passed == body
    assert "content-encoding" not in headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("content", "coding", "status", "code"),
    [
        (b"no gzip", "gzip", 400, "invalid_encoding"),
        (gzip.compress(b'{"model": "talk"}', mtime=0)[:-4], "gzip", 400, "invalid_encoding"),
        (gzip.compress(bytes(MAX_BODY + 1), mtime=0), "gzip", 413, "too_large"),
        (b"{}", "compress", 415, "unsupported_media_type"),
        (gzip.compress(b'{"model": "other"}', mtime=0), "gzip", 404, "model_not_found"),
    ],
)
def test_a_damaged_body_is_told_in_the_form_of_the_api(
    path: str, content: bytes, coding: str, status: int, code: str
) -> None:
    response, process = talk(path, content, coding)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}
    assert process.bodies == []
    assert ("gzip" in response.headers.get("accept-encoding", "")) == (status == 415)


@pytest.mark.parametrize("path", ["/predictions/line", "/v2/models/line/infer"])
def test_an_unknown_coding_is_answered_with_those_that_are_known(world: World, path: str) -> None:
    response = world.ask("POST", path, content=b"{}", headers={"content-encoding": "br"})
    assert response.status_code == 415
    assert response.headers["accept-encoding"].startswith("gzip, deflate")


def test_a_compressed_prediction_is_answered_for_what_it_holds(world: World) -> None:
    body = json.dumps({"instances": [ROW] * 3} | {"padding": "a" * 5 * INLINE}).encode()
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    response = world.ask("POST", "/v1/models/line:predict", content=gzip.compress(body), headers=headers)
    plain = world.ask("POST", "/v1/models/line:predict", content=body, headers=headers | {"content-encoding": ""})
    assert response.text == plain.text.replace(plain.headers["x-request-id"], response.headers["x-request-id"])
    small = json.dumps({"instances": [ROW] * 3}).encode()
    response = world.ask("POST", "/v1/models/line:predict", content=gzip.compress(small), headers=headers)
    assert len(response.json()["predictions"]) == 3


def get(world: World, accepted: str | None) -> httpx.Response:
    return ask(world, "GET", LARGE, {} if accepted is None else {"accept-encoding": accepted})


def ask(world: World, method: str, path: str, headers: Mapping[str, str], body: object = None) -> httpx.Response:
    """Ask without the header that httpx adds."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(world.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            del client.headers["accept-encoding"]
            return await client.request(method, path, json=body, headers=headers)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "accepted", ["gzip", "GZIP;q=0.1", "x-gzip", "zstd;q=0, *;q=0.5", "identity;q=0.2, gzip;q=0.3"]
)
def test_a_large_answer_is_compressed_where_that_is_asked_for(world: World, accepted: str) -> None:
    plain, packed = get(world, None), get(world, accepted)
    assert packed.json() == plain.json()
    assert packed.headers["content-encoding"] in compression.CODINGS
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) == len(plain.content)
    for response in (plain, packed):
        assert response.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "accepted", [None, "", "identity", "br", "gzip;q=0", "gzip;q=2", "identity, gzip;q=0.5", "*;q=0"]
)
def test_no_answer_is_compressed_where_that_is_not_asked_for(world: World, accepted: str | None) -> None:
    response = get(world, accepted)
    assert "content-encoding" not in response.headers
    assert response.json()["paths"]


def test_small_answers_and_errors_stay_plain(world: World) -> None:
    for method, path in (("POST", "/predictions/line"), ("POST", "/predictions/lime"), ("GET", "/v1/models")):
        response = ask(world, method, path, {"accept-encoding": "gzip"}, ROW)
        assert not {"content-encoding", "vary"} & set(response.headers)


def test_the_head_of_a_page_has_the_length_that_the_page_has(world: World) -> None:
    headers = {"accept-encoding": "gzip"}
    page, head = ask(world, "GET", LARGE, headers), ask(world, "HEAD", LARGE, headers)
    assert head.headers["content-encoding"] == "gzip"
    assert head.content == b""
    assert head.headers["content-length"] == page.headers["content-length"]


@pytest.mark.skipif(ZSTD is None, reason="the extra zstd is not installed")
def test_the_coding_of_the_highest_weight_is_chosen() -> None:
    assert compression.choose_coding("gzip, zstd") == "zstd"
    assert compression.choose_coding("gzip, zstd;q=0.9") == "gzip"


@pytest.mark.skipif(ZSTD is None, reason="the extra zstd is not installed")
def test_an_answer_in_zstd_holds_what_the_plain_one_does() -> None:
    body = json.dumps([0.5] * 1000).encode()
    packed = asyncio.run(compression.compressed(Response(200, body), [(b"accept-encoding", b"zstd, gzip;q=0.5")]))
    assert packed.headers == {"Vary": "Accept-Encoding", "Content-Encoding": "zstd"}
    assert ZSTD.decompress(packed.body) == body
