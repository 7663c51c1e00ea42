"""The sink of captured predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from handlers.capture import Capture
from handlers.codec import Codec
from handlers.handler import ModelHandler
from handlers.sink import RefusedError
from monitoring.records import Feedback, Prediction
from tests.handlers import wire
from tests.handlers.models import Formula
from tests.monitoring.worlds import NOW, Monitor, event
from tests.serving.stores import add, contract_of_doubling


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    one = Monitor(tmp_path)
    add(one.models)
    return one


def test_events_are_kept_once(monitor: Monitor) -> None:
    assert monitor.send(event("a"), event("b", 2)).json() == {"new": 2, "duplicates": 0}
    assert monitor.send(event("a"), event("c")).json() == {"new": 1, "duplicates": 1}
    assert monitor.send().json() == {"new": 0, "duplicates": 0}
    first, _, _ = monitor.store.predictions("doubling")
    assert first == Prediction("a", 0, "doubling", "1.0", NOW, {"x": 6.0}, 12.0)
    counted = [monitor.metrics.get_sample_value("monitor_events_total", {"result": r}) for r in ("new", "duplicate")]
    assert counted == [3, 1]


def test_attributes_that_other_senders_add_are_allowed(monitor: Monitor) -> None:
    assert monitor.send(event() | {"subject": "x", "traceparent": "00-1-1-01"}).json()["new"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"specversion": "0.3"}, "$[1].specversion"),
        ({"type": "order.placed"}, "$[1].type"),
        ({"id": ""}, "$[1].id"),
        ({"time": "2013-02-17T07:00:00"}, "$[1].time"),
        ({"data": {}}, "`request_id` - at `$[1].data`"),
        ({"data": event("a b")["data"]}, "$[1].data.request_id"),
        ({"data": event(row=-1)["data"]}, "$[1].data.row"),
        ({"data": event(model="nobody")["data"]}, "nobody 1.0 is not registered - at `$[1].data.model`"),
        ({"data": event(version="7.0")["data"]}, "doubling 7.0 is not registered"),
        ({"data": event(features={"y": 1})["data"]}, "'y' is no input of the model - at `$[1].data.features`"),
        ({"data": event(output="12")["data"]}, "Expected a finite number - at `$[1].data.output`"),
        ({"data": event(output=True)["data"]}, "Expected a finite number"),
    ],
)
def test_a_fault_refuses_the_batch_and_says_where_it_is(monitor: Monitor, change: dict[str, Any], reason: str) -> None:
    response = monitor.send(event("good"), event() | change)
    assert response.status_code == 422
    assert reason in response.json()["detail"]
    assert monitor.store.predictions("doubling") == []


def test_what_is_no_batch_of_events_is_refused(monitor: Monitor) -> None:
    assert monitor.send(event(), content_type="application/json").status_code == 415
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert monitor.client.post("/events", content=b"[{", headers=headers).status_code == 400
    assert monitor.client.post("/events", content=b"{}", headers=headers).status_code == 422
    huge = b"[" + b" " * (33 * 1024 * 1024)
    assert monitor.client.post("/events", content=huge, headers=headers).status_code == 413


def test_a_label_that_came_first_and_that_the_model_does_not_have_is_dropped(monitor: Monitor) -> None:
    monitor.store.add_feedback([Feedback("a", 0, "boot", NOW), Feedback("b", 0, 12.5, NOW)])
    monitor.send(event("a"), event("b"))
    assert [one.label for one in monitor.store.labelled("doubling")] == [12.5]
    assert monitor.metrics.get_sample_value("monitor_wrong_labels_total") == 1


def test_a_store_that_does_not_answer_is_a_503_so_that_it_is_tried_again(monitor: Monitor) -> None:
    with monitor.store._engine.begin() as connection:
        connection.execute(text("DROP TABLE predictions"))
    response = monitor.send(event())
    assert response.status_code == 503
    assert "the store does not answer" in response.json()["detail"]


def test_what_a_worker_captures_is_taken(monitor: Monitor) -> None:
    class ToMonitor:
        def post(self, body: bytes) -> None:
            headers = {"Content-Type": "application/cloudevents-batch+json"}
            response = monitor.client.post("/events", content=body, headers=headers)
            if response.status_code != 200:
                raise RefusedError(response.text)

        def close(self) -> None:
            pass

    contract = contract_of_doubling()
    capture = Capture(contract, ToMonitor(), CollectorRegistry(), 1.0, 100.0)
    handler = ModelHandler(contract, Formula(contract), Codec(contract, 8), [capture])
    asked = [wire.v1(contract, {"x": np.array([1.0, 2.0])}), wire.request({"x": 3.5}, x_request_id="order-7")]
    handler.handle(asked)
    capture.flush()
    found = [(one.request_id, one.row, one.features) for one in monitor.store.predictions("doubling")]
    assert sorted(found) == [("order-7", 0, {"x": 3.5}), ("r-1", 0, {"x": 1.0}), ("r-1", 1, {"x": 2.0})]
