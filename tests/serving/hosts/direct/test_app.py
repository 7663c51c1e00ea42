"""The application over ASGI: routes of every protocol, metadata, health, limits, and errors that say what is right."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from handlers.batch import Observer
from handlers.contract import ModelContract
from handlers.contract.example import opaque_example
from handlers.engine import Engine
from handlers.formats.codec import Codec
from handlers.formats.opaque import OpaqueCodec
from handlers.handler import ModelHandler, WireFormats
from handlers.message import MAX_BODY, Request, Response
from serving.hosts.direct.app import Application
from serving.hosts.direct.batches import Batches
from serving.hosts.direct.metadata import Metadata
from serving.hosts.direct.models import Table, targets_of
from tests.support import chat_archive
from tests.support.handlers.models import LINE, MAX_ROWS, Backwards, Formula, opaque

BASE = "http://model"
ROW = {"x": 6}
V2_BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [6.0]}]}


@contextlib.asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


class World:
    """An application that serves one model of two versions, and what clients got from it."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.elsewhere: Mapping[str, Mapping[str, ModelContract]] = {}
        self.language: dict[str, list[str]] = {}
        self.process: Any = None
        self.observers: list[Observer] = []
        self.engine: Engine = Formula(LINE)
        self.contract = LINE
        self.codec: Callable[[ModelContract, int], WireFormats] = Codec

    def make_opaque(self) -> None:
        """Serve a handler from elsewhere in place of the model."""
        example = opaque_example(b"abc", "text/plain", (b"cba", b"cba"))
        self.contract, self.engine, self.codec = opaque(example, "line"), Backwards(), OpaqueCodec

    def application(self) -> Application:
        loop = asyncio.get_running_loop()
        models: Any = {}
        for number in ("1.2", "1.3"):
            handler = ModelHandler(self.contract, self.engine, self.codec(self.contract, MAX_ROWS), self.observers)
            batches = Batches(handler.handle, loop)
            models[number] = SimpleNamespace(contract=self.contract, batches=batches, patience=10.0)
        table = Table({"line": models}, {"line": "1.2"}, targets_of({"line": models}, {"line": "1.2"}))
        table = replace(table, elsewhere=self.elsewhere)
        models = SimpleNamespace(table=table)
        metadata = Metadata(models, lambda: self.faults, lambda: self.language)
        return Application(models, metadata, nothing, elsewhere=lambda name: self.process)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.application())
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                return await client.request(method, path, **options)

        return asyncio.run(run())


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("path", ["/predictions/line", "/predictions/line/1.2", "/predictions/line/1.3"])
def test_the_native_route_answers_with_the_champion_or_the_version_that_is_named(world: World, path: str) -> None:
    response = world.ask("POST", path, json=ROW)
    assert (response.status_code, list(response.json())) == (200, ["prediction"])
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/models/line:predict", "/v1/models/line/versions/1.3:predict"])
def test_kserve_v1_answers(world: World, path: str) -> None:
    response = world.ask("POST", path, json={"instances": [ROW, ROW]})
    assert len(response.json()["predictions"]) == 2


@pytest.mark.parametrize("path", ["/v2/models/line/infer", "/v2/models/line/versions/1.3/infer"])
def test_the_open_inference_protocol_answers(world: World, path: str) -> None:
    response = world.ask("POST", path, json=V2_BODY)
    assert response.json()["outputs"][0]["shape"] == [1]


def test_a_handler_from_elsewhere_has_its_native_route_alone(world: World) -> None:
    world.make_opaque()
    answer = world.ask("POST", "/predictions/line", content=b"abc", headers={"content-type": "application/x-own"})
    assert (answer.status_code, answer.content) == (202, b"cba")
    versions = ("/v1/models/line/versions/1.3:predict", "/v2/models/line/versions/1.3/infer")
    for path in ("/v1/models/line:predict", "/v2/models/line/infer", *versions):
        refused = world.ask("POST", path, json=V2_BODY)
        assert (refused.status_code, refused.json()["expected"]) == (404, "/predictions/line")
    for path in ("/v2/models/line", "/v2/models/line/versions/1.3"):
        refused = world.ask("GET", path)
        assert (refused.status_code, refused.json()["expected"]) == (404, "/predictions/line")
    assert world.ask("GET", "/v2/models/line/ready").json()["ready"] is True
    paths = world.ask("GET", "/openapi.json").json()["paths"]
    body = paths["/predictions/line"]["post"]["requestBody"]["content"]
    assert body == {"text/plain": {"schema": {}, "example": "abc"}}
    assert not [path for path in paths if path.endswith((":predict", "/infer", "/models/line"))]


@pytest.mark.parametrize("base", ["/predictions/line/1.2", "/predictions/line/1.3"])
def test_a_client_with_a_version_for_its_base_url_has_the_protocols_behind_it(world: World, base: str) -> None:
    assert world.ask("GET", f"{base}/v2/models/line/ready").json()["ready"] is True
    assert world.ask("GET", f"{base}/v2").json()["name"] == "marloop"
    assert world.ask("POST", f"{base}/v2/models/line/infer", json=V2_BODY).json()["outputs"][0]["shape"] == [1]
    assert world.ask("POST", f"{base}/v1/models/line:predict", json={"instances": [ROW]}).status_code == 200
    assert world.ask("POST", f"{base}/v2/models/other/infer", json=V2_BODY).status_code == 404


def test_a_route_decides_the_protocol_whatever_headers_a_client_sends(world: World) -> None:
    headers = {"explain": "v2", "url_path": "v2/models/line"}
    response = world.ask("POST", "/predictions/line", json=ROW, headers=headers)
    assert list(response.json()) == ["prediction"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ping", {"status": "Healthy"}),
        ("/health", {"status": "Healthy"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v1/models", {"models": ["line"]}),
        ("/v1/models/line", {"name": "line", "ready": True}),
        ("/v2/models/line/ready", {"name": "line", "ready": True}),
        ("/v2/models/line/versions/1.3/ready", {"name": "line", "ready": True}),
    ],
)
def test_health_is_told(world: World, path: str, expected: Mapping[str, Any]) -> None:
    response = world.ask("GET", path)
    assert (response.status_code, response.json()) == (200, expected)


def test_metadata_comes_from_the_contract(world: World) -> None:
    for path in ("/v2/models/line", "/v2/models/line/versions/1.2"):
        metadata = world.ask("GET", path).json()
        assert metadata["name"] == "line"
        assert metadata["versions"] == ["1.2", "1.3"]
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1]}]
    index = world.ask("GET", "/v2/repository/index").json()
    assert [(entry["name"], entry["version"], entry["state"]) for entry in index] == [
        ("line", "1.2", "READY"),
        ("line", "1.3", "READY"),
    ]


def test_the_index_lists_language_models_with_their_state(world: World) -> None:
    versions = {number: chat_archive.contract("chat", chat_archive.echoed("Hi"), number) for number in ("1.0", "1.1")}
    world.elsewhere, world.language = {"chat": versions}, {"chat": ["1.0"]}
    world.faults = {"chat": "1.1: its archive is altered"}
    entries = [entry for entry in world.ask("GET", "/v2/repository/index").json() if entry["name"] == "chat"]
    assert {entry["version"]: entry["state"] for entry in entries} == {"1.0": "READY", "1.1": "UNAVAILABLE"}
    assert {entry["reason"] for entry in entries} == {"1.1: its archive is altered"}
    assert "/v1/chat/completions" in world.ask("GET", "/openapi.json").json()["paths"]


def test_the_index_is_answered_to_a_post_too_as_tritons_clients_send_it(world: World) -> None:
    world.elsewhere = {"chat": {"1.0": chat_archive.contract("chat", chat_archive.echoed("Hi"))}}
    whole = world.ask("GET", "/v2/repository/index").json()
    for content in (b"", b"{}", b'{"ready": false}'):
        assert world.ask("POST", "/v2/repository/index", content=content).json() == whole
    ready = world.ask("POST", "/v2/repository/index", content=b'{"ready": true}').json()
    assert [entry["state"] for entry in whole] == ["UNAVAILABLE", "READY", "READY"]
    assert ready == whole[1:]
    refused = world.ask("POST", "/v2/repository/index", content=b'{"ready": "yes"}')
    assert (refused.status_code, refused.json()["path"]) == (400, "$.ready")


def test_a_language_model_that_loads_is_not_ready_though_nothing_is_at_fault(world: World) -> None:
    world.elsewhere = {"chat": {"1.0": chat_archive.contract("chat", chat_archive.echoed("Hi"))}}
    assert world.ask("GET", "/v1/models/chat").status_code == 503
    assert world.ask("GET", "/v2/health/ready").status_code == 200
    world.language = {"chat": ["1.0"]}
    assert world.ask("GET", "/v1/models/chat").json()["ready"] is True


def test_the_routes_are_described_for_programs_and_on_a_page_that_asks_no_other_server(world: World) -> None:
    assert world.ask("GET", "/openapi.json").json()["paths"]["/predictions/line"]["post"]["tags"] == ["line"]
    page = world.ask("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "://" not in page.text


def test_a_fault_makes_the_service_and_its_model_unready(world: World) -> None:
    world.faults = {"line": "1.3: its archive is altered"}
    assert world.ask("GET", "/v2/health/ready").status_code == 503
    assert world.ask("GET", "/v2/models/line/ready").status_code == 503
    assert world.ask("GET", "/v2/health/live").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("POST", "/predictions/lime", 404, "line"),
        ("POST", "/predictions/line/9.9", 404, "1.2, 1.3"),
        ("POST", "/v1/models/lime:predict", 404, "line"),
        ("POST", "/v2/models/line/versions/9.9/infer", 404, "1.2, 1.3"),
        ("GET", "/nothing", 404, "/predictions/MODEL, /v1/… or /v2/…"),
        ("GET", "/predictions/line", 405, "POST"),
        ("POST", "/v2/models/line/ready", 405, "GET"),
    ],
)
def test_a_mistaken_url_is_told_what_would_be_right(
    world: World, method: str, path: str, status: int, expected: str
) -> None:
    response = world.ask(method, path, content=b"{}")
    body = response.json()
    detail = body["error"] if isinstance(body["error"], dict) else body
    assert (response.status_code, detail["expected"]) == (status, expected)
    assert isinstance(body["error"], str) == path.startswith(("/v1", "/v2"))
    if status == 405:
        assert response.headers["allow"] == expected


def test_query_parameters_reach_the_model(world: World) -> None:
    response = world.ask("POST", "/predictions/line?top_k=2", json=ROW)
    assert response.json()["error"]["path"] == "top_k"


def test_a_body_in_pieces_is_read_whole(world: World) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in json.dumps(ROW).encode():
            yield bytes([byte])

    response = world.ask("POST", "/predictions/line", content=pieces(), headers={"content-type": "application/json"})
    assert list(response.json()) == ["prediction"]


def test_a_body_that_is_too_large_is_refused_whether_its_length_is_told_or_not(world: World) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    for content in (b" " * (MAX_BODY + 1), endless()):
        response = world.ask("POST", "/predictions/line", content=content)
        assert (response.status_code, response.headers["connection"]) == (413, "close")
        assert str(MAX_BODY) in response.json()["error"]["expected"]


def test_headers_that_only_a_host_sets_do_not_reach_a_model_that_embeds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    async def embed(request: Request, *others: Any) -> Response:
        asked.append(request)
        return Response(200, b"{}")

    monkeypatch.setattr("serving.hosts.direct.app.embed", embed)
    headers = {"url_path": "v2/health/live", "explain": "True", "x-mine": "1"}
    assert world.ask("POST", "/v1/embeddings", json={}, headers=headers).status_code == 200
    (request,) = asked
    assert {name: value for name, value in request.headers.items() if name in headers} == {"x-mine": "1"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/predictions/talk", "/predictions/talk/1.0/v1/completions"])
def test_a_body_that_is_too_large_never_reaches_a_language_model(world: World, path: str) -> None:
    world.elsewhere = {"talk": {}}
    response = world.ask("POST", path, content=b" " * (MAX_BODY + 1))
    assert (response.status_code, response.headers["connection"]) == (413, "close")
    assert str(MAX_BODY) in response.text


def test_whoever_would_wait_longer_than_the_client_does_is_told_to_come_back() -> None:
    async def run() -> list[httpx.Response]:
        application = World().application()
        batches = application._models.table.targets["/predictions/line"].model.batches
        batches._pace = 1.0  # s a byte: as if the model were slow
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:

            def ask(timeout: str) -> Any:
                return client.post("/predictions/line", json=ROW, headers={"x-request-timeout": timeout})

            return list(await asyncio.gather(ask("soon"), ask("0.5")))

    first, second = asyncio.run(run())
    assert first.status_code == 200
    assert (second.status_code, second.json()["error"]["code"]) == (503, "overloaded")
    assert int(second.headers["retry-after"]) > 1


def lifespan(serving: Callable[[], Any]) -> list[str]:
    async def run() -> list[str]:
        sent: list[str] = []
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await Application(SimpleNamespace(), SimpleNamespace(), serving)({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
        return sent

    return asyncio.run(run())


def test_the_server_is_told_when_the_models_answer_and_when_they_cannot() -> None:
    @contextlib.asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        raise RuntimeError("no model")
        yield

    assert lifespan(nothing) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert lifespan(failing) == ["lifespan.startup.failed"]
