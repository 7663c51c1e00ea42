"""Between TorchServe and the core, with a context of the test's own."""

import gc
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from handlers import service as service_module
from handlers.contract import Example, ModelContract
from handlers.entry_points.tabular import TabularService
from handlers.formats.image import ImageCodec
from handlers.message import JSON, NPY, OCTETS
from handlers.service import MAX_ROWS, Service
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, PICTURES, Formula, pixels, serve
from tests.support.sinks import sink
from tests.support.waiting import wait_until

ANSWER = wire.ask(serve(LINE), wire.request({"x": 6}))
MODEL = msgspec.structs.replace(LINE, example=Example({"x": 6}, ANSWER))
pytestmark = pytest.mark.usefixtures("worker")
FORM = "multipart/form-data; boundary=b"


class Context:
    """TorchServe's context of one batch, as far as it is used; it keeps what it is told of each answer."""

    def __init__(
        self, folder: Path, config: Any = None, headers: list[dict[str, Any]] | None = None, name: str = "line"
    ) -> None:
        self.model_name = name
        self.system_properties = {"model_dir": str(folder)}
        self.model_yaml_config = config
        self.statuses: dict[int, tuple[int, str]] = {}
        self.answered: list[dict[str, str]] = [{} for _ in headers or []]
        self._headers = headers or []

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        return self._headers[idx]

    def get_request_id(self, idx: int = 0) -> str | None:
        return f"id-{idx}"

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.statuses[idx] = code, phrase

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "content-type", value)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.answered[idx][key] = value


class Loaded:
    """Stands for the loading of a graph, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: tuple[str, Path, int] | None = None

    def __call__(self, name: str, directory: Path, contract: ModelContract, threads: int, *others: object) -> Formula:
        self.asked = name, directory, threads
        return Formula(contract)


class PictureService(Service):
    codec = ImageCodec


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    loaded = Loaded()
    monkeypatch.setattr(service_module, "load_engine", loaded)
    return loaded


Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path, loaded: Loaded) -> Start:
    """Initializes a service on an archive that holds only a contract."""

    def initialize(
        config: Any = None, contract: ModelContract = MODEL, kind: type[Service] = TabularService
    ) -> Service:
        (tmp_path / "contract.json").write_bytes(contract.to_json())
        service = kind()
        service.initialize(Context(tmp_path, config))
        return service

    return initialize


def pictures() -> ModelContract:
    shown = pixels()[0]
    answer = wire.ask(serve(PICTURES), wire.request({"inputs": shown}))
    return msgspec.structs.replace(PICTURES, example=Example({"inputs": shown.tolist()}, answer))


def handle(
    service: Service, tmp_path: Path, *requests: tuple[dict[str, Any], dict[str, Any]]
) -> tuple[list[bytes], Context]:
    """Parts and headers of each request in, bodies and what the context was told out."""
    context = Context(tmp_path, headers=[headers for _, headers in requests])
    return service.handle([parts for parts, _ in requests], context), context


GOOD = ({"body": bytearray(b'{"x": 6}')}, {"content-type": JSON})


def test_a_batch_is_answered_in_order_with_a_status_where_it_is_not_200(start: Start, tmp_path: Path) -> None:
    many = ({"body": wire.dumps({"instances": [{"x": 1}] * 1025})}, {"content-type": JSON})
    bodies, context = handle(start(), tmp_path, GOOD, ({"body": b"{"}, {"content-type": JSON}), GOOD, many)
    assert [orjson.loads(bodies[i]) for i in (0, 2)] == [ANSWER, ANSWER]
    assert context.statuses == {1: (400, "Bad Request"), 3: (413, "Request Entity Too Large")}
    assert [answered["content-type"] for answered in context.answered] == [JSON] * 4
    assert all(type(body) is bytes for body in bodies)


def test_an_error_carries_the_id_that_torchserve_gave_the_request(start: Start, tmp_path: Path) -> None:
    bodies, _ = handle(start(), tmp_path, GOOD, ({"body": b"{"}, {"content-type": JSON}))
    assert orjson.loads(bodies[1])["error"]["request_id"] == "id-1"


@pytest.mark.parametrize("name", ["Content-Type", "CONTENT-TYPE", "content-type"])
def test_the_case_of_a_headers_name_does_not_matter(start: Start, tmp_path: Path, name: str) -> None:
    _, context = handle(start(), tmp_path, ({"body": b'{"x": 6}'}, {name: "text/plain"}), (GOOD[0], {name: JSON}))
    assert context.statuses == {0: (415, "Unsupported Media Type")}


def test_content_type_and_headers_of_a_binary_answer_are_passed_on(start: Start, tmp_path: Path) -> None:
    x = np.array([1, 6], np.float32)
    asked = wire.v2_binary(LINE, {"x": x}, parameters={"binary_data_output": True})
    (body,), context = handle(start(), tmp_path, ({"body": asked.body}, dict(asked.headers)))
    assert context.answered[0]["content-type"] == OCTETS
    length = int(context.answered[0]["Inference-Header-Content-Length"])
    assert np.frombuffer(body[length:], "<f4")[1] == np.float32(ANSWER["prediction"])
    numpy = ({"body": wire.save(x)}, {"content-type": NPY, "accept": NPY})
    (body,), context = handle(start(), tmp_path, numpy)
    assert context.answered[0]["content-type"] == NPY
    assert wire.load(body)[1] == np.float32(ANSWER["prediction"])


@pytest.mark.parametrize("name", ["file", "body"])
def test_a_forms_parts_may_have_any_name_and_stand_among_the_headers_too(
    start: Start, tmp_path: Path, name: str
) -> None:
    contract = pictures()
    service = start(contract=contract, kind=PictureService)
    part = bytearray(wire.picture(pixels()[0]))
    headers = {"content-type": FORM, name: {"content-type": "image/png"}}
    (body,), context = handle(service, tmp_path, ({name: part, "top_k": bytearray(b"2")}, headers))
    assert context.statuses == {}
    assert len(orjson.loads(body)["prediction"]["top_k"]) == 2


def test_query_parameters_stand_beside_the_body(start: Start, tmp_path: Path) -> None:
    service = start(contract=pictures(), kind=PictureService)
    parts = {"body": wire.picture(pixels()[0]), "top_k": bytearray(b"3")}
    (body,), _ = handle(service, tmp_path, (parts, {"content-type": "image/png"}))
    assert len(orjson.loads(body)["prediction"]["top_k"]) == 3


def test_json_without_its_content_type_arrives_as_a_form_and_is_told_so(start: Start, tmp_path: Path) -> None:
    curl = ({'{"x": 6}': bytearray()}, {"content-type": "application/x-www-form-urlencoded"})
    (body,), context = handle(start(), tmp_path, curl)
    assert context.statuses[0][0] == 415
    assert "Content-Type: application/json" in orjson.loads(body)["error"]["message"]


def test_a_request_without_body_or_headers_is_refused(start: Start, tmp_path: Path) -> None:
    (body,), context = handle(start(), tmp_path, ({}, {}))
    assert (context.statuses[0][0], orjson.loads(body)["error"]["code"]) == (400, "empty")


def test_a_worker_logs_from_warning_on_and_gets_bodies_undecoded(start: Start) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    start()
    assert logging.getLogger().getEffectiveLevel() == logging.WARNING
    assert os.environ["TS_DECODE_INPUT_REQUEST"] == "false"


@pytest.mark.parametrize(
    "config", [None, {}, {"minWorkers": 1}, {"handler": None}, {"handler": {"threads": None, "max_rows": None}}]
)
def test_without_settings_there_are_defaults(
    start: Start, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any
) -> None:
    monkeypatch.setattr("handlers.service.available_cores", lambda: 6)
    service = start(config)
    assert loaded.asked == ("onnxruntime", tmp_path, 6)
    rows = [{"x": 1}] * MAX_ROWS
    _, context = handle(service, tmp_path, ({"body": wire.dumps({"instances": rows})}, {"content-type": JSON}))
    assert context.statuses == {}


@pytest.mark.parametrize(("workers", "threads"), [(1, 6), (2, 3), (4, 1), (9, 1), (0, 6)])
def test_the_workers_share_the_cores(
    start: Start, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int
) -> None:
    monkeypatch.setattr("handlers.service.available_cores", lambda: 6)
    start({"minWorkers": workers})
    assert loaded.asked is not None
    assert loaded.asked[2] == threads


def test_settings_are_obeyed(start: Start, loaded: Loaded, tmp_path: Path) -> None:
    service = start({"minWorkers": 2, "handler": {"engine": "torch", "threads": 3, "max_rows": 2}})
    assert loaded.asked == ("torch", tmp_path, 3)
    three = {"body": wire.dumps({"instances": [{"x": 1}] * 3})}
    (body,), context = handle(service, tmp_path, (three, {"content-type": JSON}))
    assert context.statuses[0][0] == 413
    assert orjson.loads(body)["expected"] == "at most 2 rows"


@pytest.mark.parametrize("name", ["threads", "max_rows"])
@pytest.mark.parametrize("value", [0, -1, "many", 2.5, True, []])
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(start: Start, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"handler.{name} is .* in model-config.yaml; it must be a positive integer"):
        start({"handler": {name: value}})


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_bytes(MODEL.to_json())
    with pytest.raises(ValueError, match=r"handler.engine is 'fast' .* one of onnxruntime, torch"):
        TabularService().initialize(Context(tmp_path, {"handler": {"engine": "fast"}}))


def test_an_archive_whose_contract_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_bytes(b"{}")
    with pytest.raises(ValueError, match="not a contract"):
        TabularService().initialize(Context(tmp_path))


def test_a_model_that_does_not_answer_its_example_is_not_served(start: Start) -> None:
    wrong = msgspec.structs.replace(LINE, example=Example({"x": 6}, {"prediction": 12.0}))
    with pytest.raises(RuntimeError, match=r"line 1\.2: answered .*, not .*12\.0"):
        start(contract=wrong)


def test_what_is_loaded_is_left_alone_by_the_garbage_collector(start: Start) -> None:
    gc.unfreeze()
    start()
    assert gc.get_freeze_count() > 1000


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_what_was_answered_reaches_the_sink_with_its_token(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sink() as received:
        monkeypatch.setenv("CAPTURE_URL", received.url)
        monkeypatch.setenv("MARLOOP_TOKEN", "secret")
        service = start()
        handle(service, tmp_path, GOOD)
        wait_until(lambda: bool(received.events), poll=0.01)
        assert service.capture is not None
        service.capture.stop(10)
    (event,) = received.events  # the example, which it was tried with, is none
    assert event["data"]["request_id"] == "id-0"
    assert event["data"]["output"] == pytest.approx(ANSWER["prediction"])
    assert received.headers[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("url", [None, "", "off"])
def test_without_a_sink_nothing_is_captured(start: Start, monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    if url is not None:
        monkeypatch.setenv("CAPTURE_URL", url)
    start()
    assert "capture" not in threads()


def test_a_copy_that_is_served_under_another_name_captures_nothing(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTURE_URL", "http://127.0.0.1:1/events")
    (tmp_path / "contract.json").write_bytes(MODEL.to_json())
    TabularService().initialize(Context(tmp_path, name="line-tune"))
    assert "capture" not in threads()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CAPTURE_URL", "localhost", "CAPTURE_URL is 'localhost'; it must be a URL"),
        ("MARLOOP_CAPTURE_SAMPLE", "2", "MARLOOP_CAPTURE_SAMPLE is '2'; it must be a share from 0 to 1"),
        ("MARLOOP_CAPTURE_ROWS_PER_SECOND", "0", "PER_SECOND is '0'; it must be a positive number"),
        ("MARLOOP_CAPTURE_ROWS_PER_SECOND", "inf", "PER_SECOND is 'inf'; it must be a positive number"),
        ("MARLOOP_CAPTURE_ROWS_PER_SECOND", "many", "PER_SECOND is 'many'; it must be a positive number"),
    ],
)
def test_a_setting_of_capture_that_makes_no_sense_is_refused_by_its_name(
    start: Start, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv("CAPTURE_URL", "http://127.0.0.1:1/events")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        start()
