"""Feedback over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from handlers.contract import TensorSpec
from tests.support.monitoring.worlds import NOW, Monitor, event
from tests.support.serving.stores import add, add_contract, alter, contract_of_doubling


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


def test_an_explicit_correction_is_taken_and_kept_in_the_decisions(monitor: Monitor) -> None:
    monitor.tell({"request_id": "a", "label": 12})
    refused = monitor.tell({"request_id": "a", "label": 13})
    assert "/feedback?correct=true" in refused.json()["detail"]["message"]
    told = [{"request_id": "a", "label": 13}, {"request_id": "b", "label": 1}]
    taken = monitor.client.post("/feedback?correct=true", json=told)
    assert taken.json() == {"accepted": 1, "duplicates": 0, "waiting": 0, "corrected": 1}
    assert labels(monitor) == [("a", 0, 13.0), ("b", 0, 1.0)]
    (decision,) = monitor.store.journal.decisions("doubling")
    assert decision.details["labels"] == [{"request_id": "a", "row": 0, "was": 12.0, "is": 13.0}]
    wrong = monitor.client.post("/feedback?correct=true", json={"request_id": "a", "label": "cat"})
    assert wrong.status_code == 422
    twice = [{"request_id": "a", "label": 1}, {"request_id": "a", "label": 2}]
    assert monitor.client.post("/feedback?correct=true", json=twice).status_code == 409
    many = [{"request_id": f"c{i}", "label": 1} for i in range(1001)]
    assert monitor.client.post("/feedback?correct=true", json=many).status_code == 422


def test_where_two_models_answered_one_id_a_label_must_name_its_model(monitor: Monitor) -> None:
    add(monitor.models, "tripling")
    assert monitor.send(event("a", model="tripling", output=18.0)).json()["new"] == 1
    refused = monitor.tell({"request_id": "a", "label": 5})
    assert refused.status_code == 409
    assert refused.json()["detail"]["models"] == {"a": ["doubling", "tripling"]}
    assert '"model": "doubling"' in refused.json()["detail"]["message"]
    for model, label in (("doubling", 12), ("tripling", 18)):
        assert monitor.tell({"request_id": "a", "label": label, "model": model}).json()["accepted"] == 1
    assert labels(monitor) == [("a", 0, 12.0)]
    assert [one.label for one in monitor.store.labelled("tripling")] == [18.0]
    unknown = monitor.tell({"request_id": "a", "label": 5, "model": "nobody"})
    assert unknown.status_code == 422
    assert "there is no model 'nobody', only doubling, tripling" in unknown.json()["detail"]
    early = monitor.tell({"request_id": "early", "label": "cat", "model": "tripling"})
    assert early.status_code == 422


def test_a_label_of_a_version_that_is_gone_is_judged_by_the_champion(monitor: Monitor) -> None:
    add(monitor.models, number="2.0")
    with monitor.models.change() as models:
        del models["doubling"]["1.0"]
    assert monitor.tell({"request_id": "a", "label": "cat"}).status_code == 422
    assert monitor.tell({"request_id": "a", "label": 3}).status_code == 200
    with monitor.models.change() as models:
        del models["doubling"]
    assert monitor.tell({"request_id": "b", "label": 3}).status_code == 200


def test_labels_posted_beside_their_predictions_never_break_the_quality(monitor: Monitor) -> None:
    def post(i: int) -> httpx2.Response:
        return (
            monitor.send(event(f"race-{i // 2}"))
            if i % 2
            else monitor.tell({"request_id": f"race-{i // 2}", "label": "cat"})
        )

    def act(i: int) -> int:
        while (response := post(i)).status_code == 503:  # a busy database asks to come again
            assert response.headers["Retry-After"]
        return response.status_code

    with ThreadPoolExecutor(40) as pool:
        codes = list(pool.map(act, range(80)))
    assert set(codes[1::2]) == {200}
    assert set(codes[::2]) <= {200, 422}
    assert labels(monitor) == []
    told = monitor.tell(*({"request_id": f"race-{i}", "label": 12.0} for i in range(40)))
    assert told.json()["accepted"] == 40


def test_a_label_beyond_the_contracts_range_is_refused(monitor: Monitor) -> None:
    contract = msgspec.structs.replace(contract_of_doubling("ranged"), label_range=(-100.0, 100.0))
    add_contract(monitor.models, contract)
    monitor.send(event("r", model="ranged"))
    for label in (1e300, -1e308, 100.5, 2**70):
        assert monitor.tell({"request_id": "r", "label": label}).status_code == 422
    assert monitor.tell({"request_id": "r", "label": -0.0}).status_code == 200


def test_a_label_of_several_targets_has_a_number_for_each(monitor: Monitor) -> None:
    outputs = (TensorSpec("delay", "FP32"), TensorSpec("fuel", "FP32"))
    add_contract(monitor.models, msgspec.structs.replace(contract_of_doubling("both"), outputs=outputs))
    monitor.send(event("t", model="both", output={"delay": 1.0, "fuel": 2.0}))
    assert len(monitor.store.predictions("both")) == 1
    for wrong in (1.0, {"delay": 1}, {"delay": 1, "fuel": 2, "more": 3}):
        refused = monitor.tell({"request_id": "t", "label": wrong})
        assert refused.status_code == 422
        (fault,) = refused.json()["detail"]["faults"]
        assert fault["expected"] == "an object with a number for each of delay, fuel"
    right = {"delay": 1, "fuel": 2.5}
    assert monitor.tell({"request_id": "t", "label": right}).json()["accepted"] == 1
    assert monitor.tell({"request_id": "t", "label": right}).json()["duplicates"] == 1
    assert monitor.tell({"request_id": "t", "label": {"delay": 1, "fuel": 3}}).status_code == 409
    assert [one.label for one in monitor.store.labelled("both")] == [{"delay": 1.0, "fuel": 2.5}]


def test_a_list_of_numbers_is_refused_in_a_sentence_as_it_names_no_targets(monitor: Monitor) -> None:
    refused = monitor.tell({"request_id": "a", "label": [5.0, 300.0]})
    assert refused.status_code == 422
    said = [fault["msg"] for fault in refused.json()["detail"]]
    assert any(msg.startswith("a list does not name its targets: send an object") for msg in said)
    assert labels(monitor) == []


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
        b'{"request_id": "a", "label": 1, "row": true}',
        b'{"request_id": "a", "label": 1, "row": "0"}',
        b'{"request_id": "a", "label": 1e300}',
        b'{"request_id": "a", "label": -1e308}',
        b'{"request_id": "a", "label": 1e309}',
        b'{"request_id": "a", "label": Infinity}',
        b'{"request_id": "a", "label": {"is": "much"}}',
        b'{"request_id": "a", "label": 1, "model": ""}',
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
