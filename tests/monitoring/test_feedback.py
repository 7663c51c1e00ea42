"""Feedback over HTTP."""

from pathlib import Path
from typing import Any

import pytest

from tests.monitoring.worlds import NOW, Monitor, event
from tests.serving.stores import add, alter


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    one = Monitor(tmp_path)
    add(one.models)
    one.send(event("a"), event("a", 1), event("b"))
    return one


def labels(monitor: Monitor) -> list[tuple[str, int, Any]]:
    found = monitor.store.labelled("doubling")
    return sorted((one.prediction.request_id, one.prediction.row, one.label) for one in found)


def test_one_label_or_many_join_their_predictions(monitor: Monitor) -> None:
    taken = monitor.tell({"request_id": "b", "label": 12})
    assert (taken.status_code, taken.json()) == (200, {"accepted": 1, "duplicates": 0, "waiting": 0})
    many = [{"request_id": "a", "row": 0, "label": 11.5}, {"request_id": "a", "row": 1, "label": -3e-5}]
    assert monitor.tell(*many).json()["accepted"] == 2
    assert labels(monitor) == [("a", 0, 11.5), ("a", 1, -3e-5), ("b", 0, 12.0)]
    assert monitor.store.labelled("doubling")[0].labelled == NOW


def test_the_same_again_changes_nothing(monitor: Monitor) -> None:
    for accepted in (1, 0):
        taken = monitor.tell({"request_id": "a", "label": 12.0})
        assert taken.json() == {"accepted": accepted, "duplicates": 1 - accepted, "waiting": 0}
    names = [
        monitor.metrics.get_sample_value("monitor_feedback_total", {"result": r}) for r in ("accepted", "duplicate")
    ]
    assert names == [1, 1]


def test_a_label_of_an_unknown_request_waits_for_it(monitor: Monitor) -> None:
    assert monitor.tell({"request_id": "late", "label": 7.5}).json()["waiting"] == 1
    assert labels(monitor) == []
    monitor.send(event("late"))
    assert labels(monitor) == [("late", 0, 7.5)]


def test_a_contradiction_is_a_conflict_that_names_each_row_and_nothing_is_kept(monitor: Monitor) -> None:
    monitor.tell({"request_id": "a", "row": 1, "label": 12})
    refused = monitor.tell({"request_id": "b", "label": 1}, {"request_id": "a", "row": 1, "label": 13})
    assert refused.status_code == 409
    detail = refused.json()["detail"]
    assert detail["conflicts"] == [{"request_id": "a", "row": 1, "known": 12.0, "given": 13.0}]
    assert "'a' row 1 is 12.0, not 13.0" in detail["message"]
    assert labels(monitor) == [("a", 1, 12.0)]


def test_a_label_that_the_model_does_not_have_is_refused_and_nothing_is_kept(monitor: Monitor) -> None:
    refused = monitor.tell({"request_id": "b", "label": 1}, {"request_id": "a", "label": "boot"})
    assert refused.status_code == 422
    fault = {"request_id": "a", "row": 0, "label": "boot", "expected": "a finite number"}
    assert refused.json()["detail"]["faults"] == [fault]
    assert labels(monitor) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'{"request_id": "", "label": 1}',
        b'{"request_id": "a b", "label": 1}',
        b'{"request_id": "a", "label": true}',
        b'{"request_id": "a", "label": null}',
        b'{"request_id": "a", "label": NaN}',
        b'{"request_id": "a", "label": [1]}',
        b'{"request_id": "a", "label": 1' + b"0" * 400 + b"}",
        b'{"request_id": "a", "label": 1, "row": -1}',
        b'{"request_id": "a", "label": 1, "row": 1.5}',
        b'{"request_id": "a", "label": 1, "rows": 1}',
        b'{"request_id": "a", "label": "' + b"x" * 201 + b'"}',
    ],
)
def test_what_is_no_feedback_is_refused_with_the_place_of_the_fault(monitor: Monitor, body: bytes) -> None:
    response = monitor.client.post("/feedback", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "body"


def test_a_label_is_kept_even_where_the_models_archive_cannot_be_read(monitor: Monitor, tmp_path: Path) -> None:
    other = Monitor(tmp_path / "other")
    path = add(other.models)
    other.send(event("a"))
    alter(path)
    again = Monitor(tmp_path / "other")
    assert again.tell({"request_id": "a", "label": 5}).json()["accepted"] == 1
