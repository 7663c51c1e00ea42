"""Requests that never come into a batch are counted: by their model where one is known, else by none."""

from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from handlers.message import MAX_BODY
from handlers.observe.telemetry import Telemetry
from serving.hosts.direct.app import Application
from serving.hosts.direct.batches import Overloaded
from serving.hosts.direct.http.refusals import Refusals
from tests.serving.hosts.direct.test_app import ROW, World
from tests.support import chat_archive
from tests.support.handlers.models import LINE

LARGE = b"x" * (MAX_BODY + 1)


class Counted(World):
    """An application whose refusals are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = CollectorRegistry()
        self.own = CollectorRegistry()  # of the model
        self.telemetry = Telemetry(LINE, lambda request: "native", self.own)
        self.overloaded = False

    def application(self) -> Application:
        application = super().application()
        for model in application._models.table.models["line"].values():
            served: Any = model
            served.instruments = self.telemetry
            if self.overloaded:
                served.batches.admit = self.refuse
        self.registry = CollectorRegistry()  # of this application alone
        application._refused = Refusals(application._models, self.registry).count
        return application

    def refuse(self, size: int, patience: float) -> None:
        raise Overloaded(1.0)


@pytest.fixture
def world() -> Counted:
    return Counted()


def count(world: Counted, response: httpx.Response, model: str, version: str, protocol: str) -> float | None:
    """How often an answer was counted under these labels."""
    labels = {"model": model, "version": version, "protocol": protocol, "code": str(response.status_code)}
    registry = world.own if (model, version) == (LINE.name, LINE.version) else world.registry
    return registry.get_sample_value("model_requests_total", labels)


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("/predictions/line", "native"),
        ("/v1/models/line:predict", "v1"),
        ("/v2/models/line/infer", "v2"),
        ("/predictions/line/1.3/v2/models/line/infer", "v2"),
    ],
)
def test_a_body_that_is_too_large_is_counted_by_its_model(world: Counted, path: str, protocol: str) -> None:
    response = world.ask("POST", path, content=LARGE)
    assert response.status_code == 413
    assert count(world, response, LINE.name, LINE.version, protocol) == 1
    reasons = {"model": LINE.name, "version": LINE.version, "reason": "too_large"}
    assert world.own.get_sample_value("model_input_errors_total", reasons) == 1


def test_who_is_turned_away_under_overload_is_counted(world: Counted) -> None:
    world.overloaded = True
    response = world.ask("POST", "/predictions/line", json=ROW)
    assert response.status_code == 503
    assert count(world, response, LINE.name, LINE.version, "native") == 1


def test_what_is_answered_is_not_counted_a_second_time(world: Counted) -> None:
    for response in (world.ask("POST", "/predictions/line", json=ROW), world.ask("GET", "/v2/models/line")):
        assert response.status_code == 200
        assert count(world, response, LINE.name, LINE.version, "native") is None


@pytest.mark.parametrize(
    ("method", "path", "model", "protocol"),
    [
        ("GET", "/nothing", "", "unknown"),
        ("POST", "/predictions/other", "", "native"),
        ("POST", "/predictions/line/9.9", "line", "native"),
        ("GET", "/v2/models/line/versions/9.9", "line", "v2"),
        ("POST", "/v1/chat/completions", "", "openai"),
        ("POST", "/v1/responses", "", "openai"),
        ("DELETE", "/v1/models", "", "v1"),
    ],
)
def test_what_no_served_version_is_asked_adds_no_label(
    world: Counted, method: str, path: str, model: str, protocol: str
) -> None:
    response = world.ask(method, path)
    assert response.status_code in (404, 405)
    assert count(world, response, model, "", protocol) == 1


def test_a_wrong_method_is_counted_by_its_model(world: Counted) -> None:
    response = world.ask("GET", "/predictions/line")
    assert response.status_code == 405
    assert count(world, response, LINE.name, LINE.version, "native") == 1


def test_a_language_model_has_its_refusals_by_its_version(world: Counted) -> None:
    contracts = {
        number: chat_archive.contract("talk", chat_archive.echoed("Hi"), number) for number in ("1.0", "1.1", "1.10")
    }
    world.elsewhere = {"talk": contracts}
    for path, version, protocol in (
        ("/predictions/talk", "1.0", "native"),
        ("/predictions/talk/1.1/v1/chat/completions", "1.1", "openai"),
        ("/predictions/talk/1.10/v1/completions", "1.10", "openai"),
    ):
        response = world.ask("POST", path, content=LARGE)
        assert response.status_code == 413
        assert count(world, response, "talk", version, protocol) == 1
