"""The sink of captured predictions."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from handlers.contract import Example, ModelContract, TensorSpec, classification_outputs
from handlers.contract.model_card import Evaluation, Lineage, Reference
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.observe.capture import Capture
from handlers.observe.sink import RefusedError, Sink
from monitoring.store.records import Feedback, Prediction
from tests.support.handlers import wire
from tests.support.handlers.models import Formula
from tests.support.monitoring.worlds import NOW, Monitor, event
from tests.support.serving.stores import add, add_contract, contract_of_doubling


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
def test_a_row_with_a_fault_is_told_with_its_place_and_the_others_are_kept(
    monitor: Monitor, change: dict[str, Any], reason: str
) -> None:
    refused = monitor.send(event("first") | change, event() | change)
    assert refused.status_code == 422
    assert reason.replace("$[1]", "$[0]") in refused.json()["detail"]
    assert monitor.store.predictions("doubling") == []
    mixed = monitor.send(event("good"), event("bad") | change, event("b"))
    assert (mixed.status_code, mixed.json()["new"], mixed.json()["refused"]) == (200, 2, 1)
    (fault,) = mixed.json()["faults"]
    assert fault["index"] == 1
    assert reason in fault["fault"]
    assert [one.request_id for one in monitor.store.predictions("doubling")] == ["b", "good"]
    assert monitor.metrics.get_sample_value("monitor_events_total", {"result": "refused"}) == 3


WIDE = ModelContract(
    "wide",
    "1.0",
    "classification",
    (
        TensorSpec("distance", "FP32", range=(0, 0.1)),
        TensorSpec("hour", "INT64", range=(0, 23)),
        TensorSpec("carrier", "BYTES", categories=("UA", "AA")),
        TensorSpec("text", "BYTES"),
        TensorSpec("late", "BOOL"),
        TensorSpec("pair", "UINT8", (-1, 2)),
        TensorSpec("picture", "UINT8", (-1, 28, 28)),
        TensorSpec("big", "UINT64"),
    ),
    classification_outputs(2),
    ("cat", "dog"),
    Example({}, {}),
    Reference(),
    Evaluation(),
    Lineage(),
)
GOOD = {
    "distance": 0.10000000149,
    "hour": 8,
    "carrier": "UA",
    "text": "naïve",
    "late": True,
    "pair": [1, 255],
    "picture": 0.5,
    "big": 2**64 - 1,
}
ANSWER = {"label": "cat", "probabilities": [0.75, 0.25]}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"distance": "abc"}, "distance"),
        ({"distance": True}, "distance"),
        ({"distance": None}, "distance"),
        ({"distance": 0.2}, "distance"),
        ({"distance": 1e300}, "distance"),
        ({"distance": 10**400}, "distance"),
        ({"distance": [1.0]}, "distance"),
        ({"hour": 2**70}, "hour"),
        ({"hour": -1}, "hour"),
        ({"hour": 8.5}, "hour"),
        ({"hour": "8"}, "hour"),
        ({"carrier": "XX"}, "carrier"),
        ({"carrier": 1}, "carrier"),
        ({"carrier": ["UA"]}, "carrier"),
        ({"text": 5}, "text"),
        ({"text": "x" * 2001}, "text"),
        ({"late": 1}, "late"),
        ({"pair": [1]}, "pair"),
        ({"pair": [1, 256]}, "pair[1]"),
        ({"pair": [1, [2]]}, "pair[1]"),
        ({"pair": 3}, "pair"),
        ({"picture": [[1]]}, "picture"),
        ({"big": 2**64}, "big"),
    ],
)
def test_features_must_be_such_as_the_handler_decodes(monitor: Monitor, changes: dict[str, Any], place: str) -> None:
    add_contract(monitor.models, WIDE)
    good = event(model="wide", features=GOOD, output=ANSWER)
    assert monitor.send(good).json()["new"] == 1
    refused = monitor.send(event("b", model="wide", features=GOOD | changes, output=ANSWER))
    assert refused.status_code == 422
    assert f"at `$[0].data.features.{place}`" in refused.json()["detail"]
    missing = {name: value for name, value in GOOD.items() if name not in changes}
    told = monitor.send(event("c", model="wide", features=missing, output=ANSWER)).json()["detail"]
    assert "got nothing" in told


@pytest.mark.parametrize(
    "output",
    [
        {"label": "cow", "probabilities": [0.5, 0.5]},
        {"label": "cat", "probabilities": [1.0]},
        {"label": "cat", "probabilities": [7.0, 0.5]},
        {"label": "cat", "probabilities": [None, 0.5]},
        {"label": ["cat"], "probabilities": [0.5, 0.5]},
        3.5,
        None,
    ],
)
def test_an_answer_must_be_such_as_the_model_has(monitor: Monitor, output: Any) -> None:
    add_contract(monitor.models, WIDE)
    refused = monitor.send(event(model="wide", features=GOOD, output=output))
    assert refused.status_code == 422
    assert "at `$[0].data.output`" in refused.json()["detail"]


def test_an_event_ahead_of_the_wall_is_refused_and_one_a_little_ahead_is_not(monitor: Monitor) -> None:
    now = datetime.now(UTC)
    for year in ("2099-01-01T00:00:00Z", (now + timedelta(minutes=6)).isoformat()):
        refused = monitor.send(event() | {"time": year})
        assert refused.status_code == 422
        assert "ahead of this machine's clock by over 0:05:00 - at `$[0].time`" in refused.json()["detail"]
    assert monitor.send(event() | {"time": (now + timedelta(minutes=4)).isoformat()}).json()["new"] == 1


def test_a_body_that_is_too_deep_or_has_too_many_events_is_refused(monitor: Monitor) -> None:
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert monitor.client.post("/events", content=b"[" * 100_000, headers=headers).status_code == 400
    deep = b'[{"data": {"features": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]"
    assert monitor.client.post("/events", content=deep, headers=headers).status_code in (400, 422)
    many = b"[" + b"{}," * 20_000 + b"{}]"
    assert monitor.client.post("/events", content=many, headers=headers).status_code == 413


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
    with monitor.store.database.engine.begin() as connection:
        connection.execute(text("DROP TABLE predictions"))
    response = monitor.send(event())
    assert response.status_code == 503
    assert "the store does not answer" in response.json()["detail"]


def test_what_a_worker_captures_is_taken(monitor: Monitor) -> None:
    class ToMonitor(Sink):
        def __init__(self) -> None:
            pass

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
