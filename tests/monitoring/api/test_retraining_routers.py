"""The loop over HTTP: ask, follow, cancel, promote, roll back, and Alertmanager's webhook."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest

from handlers.observe.settings import Credentials
from monitoring.api.access import Access
from monitoring.api.alerts import alerts_router
from monitoring.api.jobs import MOST_LOG, NEXT, jobs_router
from monitoring.api.promotions import actions_router
from monitoring.retraining.metrics import RetrainingMetrics
from tests.support.monitoring.loops import MODEL, Loop
from tests.support.serving.stores import add, alter


class World(Loop):
    """The loop with its routes, asked from this machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.client = self.client_with(Access(Credentials()))

    def client_with(self, access: Access) -> TestClient:
        app = FastAPI()
        app.include_router(jobs_router(self.store.journal, self.retraining, self.challenges, access))
        app.include_router(actions_router(self.promotions, access))
        app.include_router(alerts_router(self.retraining, self.promotions, access))
        return TestClient(app, "http://127.0.0.1:8090", client=("127.0.0.1", 50000))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.store.close()


def alert(status: str = "firing", **labels: str) -> dict[str, Any]:
    """As Alertmanager sends it."""
    known = {"alertname": "ModelQualityFell", "model": MODEL, "version": "1.0", "retrain": "on"} | labels
    return {
        "status": status,
        "labels": {name: value for name, value in known.items() if value},
        "annotations": {"summary": "it errs more"},
        "startsAt": "2013-02-17T12:00:00Z",
        "fingerprint": "a",
    }


def notification(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {"version": "4", "groupKey": "{}", "status": "firing", "receiver": "monitor", "alerts": list(alerts)}


def test_a_retraining_is_asked_for_followed_and_cancelled(world: World) -> None:
    asked = world.client.post(f"/models/{MODEL}/retrain", json={"reason": "new planes"})
    assert asked.status_code == 202
    assert (asked.json()["id"], asked.json()["state"], asked.json()["reason"]) == (1, "queued", "new planes")
    again = world.client.post(f"/models/{MODEL}/retrain")
    assert (again.status_code, again.json()["detail"]) == (409, "job 1 of doubling is queued: one at a time")
    world.look()
    job = world.client.get("/jobs/1").json()
    assert (job["state"], job["result"]["stage"]) == ("running", "train")
    assert world.client.post("/jobs/1/cancel").status_code == 202
    world.look()
    assert world.client.get("/jobs/1").json()["state"] == "cancelled"
    assert world.client.post("/jobs/1/cancel").status_code == 409
    assert world.client.post("/jobs/7/cancel").status_code == 404
    assert world.client.get("/jobs/7").json()["detail"] == "there is no job 7"


def test_a_challenge_is_asked_for_and_followed(world: World) -> None:
    add(world.models, MODEL, "1.1", "challenger")
    world.label([-i / 20 for i in range(1, 401)])
    path = f"/models/{MODEL}/challenge"
    asked = world.client.post(path, json={"version": "1.1", "reason": "an import"})
    assert asked.status_code == 202, asked.text
    job = asked.json()
    assert (job["state"], job["reason"]) == ("queued", "an import")
    assert job["result"] == {"kind": "challenge", "version": "1.1"}
    again = world.client.post(path, json={"version": "1.1"})
    assert (again.status_code, again.json()["detail"]) == (409, "job 1 of doubling is queued: one at a time")
    world.look(4)
    assert world.client.get("/jobs/1").json()["state"] == "promoted"
    assert world.client.get("/jobs/1/log").content == b""
    for model, body, code in [(MODEL, {"version": "7.0"}, 404), ("nobody", {"version": "1.1"}, 404), (MODEL, {}, 422)]:
        assert world.client.post(f"/models/{model}/challenge", json=body).status_code == code


def test_jobs_are_found_by_model_and_state(world: World) -> None:
    world.promote()
    world.request()
    assert [one["id"] for one in world.client.get("/jobs").json()] == [2, 1]
    assert [one["id"] for one in world.client.get("/jobs", params={"state": "promoted"}).json()] == [1]
    assert [one["id"] for one in world.client.get("/jobs", params={"state": ["promoted", "queued"]}).json()] == [2, 1]
    assert world.client.get("/jobs", params={"model": "nobody"}).json() == []
    assert [one["id"] for one in world.client.get("/jobs", params={"limit": 1}).json()] == [2]
    assert world.client.get("/jobs", params={"state": "lost"}).status_code == 422
    told = [one["kind"] for one in world.client.get("/decisions", params={"model": MODEL}).json()]
    assert told == ["requested", "promoted", "requested"]


def test_a_log_is_read_in_parts_and_its_end_without_an_offset(world: World) -> None:
    world.request()
    assert world.client.get("/jobs/1/log").content == b""
    world.look()
    assert world.client.get("/jobs/1/log").content == b""
    world.trainings.log(1).write_bytes(b"a" * MOST_LOG + b"<b>end\n")
    end = world.client.get("/jobs/1/log")
    assert (len(end.content), end.text[-7:]) == (MOST_LOG, "<b>end\n")
    assert end.headers["content-type"] == "text/plain; charset=utf-8"
    assert end.headers["x-content-type-options"] == "nosniff"
    first = world.client.get("/jobs/1/log", params={"offset": 0})
    rest = world.client.get("/jobs/1/log", params={"offset": first.headers[NEXT]})
    assert first.content + rest.content == world.trainings.log(1).read_bytes()
    nothing = world.client.get("/jobs/1/log", params={"offset": 10**9})
    assert (nothing.content, nothing.headers[NEXT]) == (b"", str(MOST_LOG + 7))


def test_a_version_is_promoted_and_rolled_back(world: World) -> None:
    path = add(world.models, MODEL, "1.1", "challenger")
    done = world.client.post(f"/models/{MODEL}/promote", json={"version": "1.1"})
    assert done.json() == {"model": MODEL, "champion": "1.1", "former": "1.0"}
    back = world.client.post(f"/models/{MODEL}/rollback")
    assert back.json() == {"model": MODEL, "champion": "1.0", "former": "1.1"}
    for call, body, code in [
        ("promote", {"version": "1.0"}, 409),
        ("promote", {"version": "7.0"}, 404),
        ("promote", {}, 422),
        ("rollback", None, 409),
    ]:
        assert world.client.post(f"/models/{MODEL}/{call}", json=body).status_code == code
    assert world.client.post("/models/nobody/rollback").status_code == 404
    alter(path)
    assert world.client.post(f"/models/{MODEL}/promote", json={"version": "1.1"}).status_code == 409
    world.rollout.refuses = True
    refused = world.client.post(f"/models/{MODEL}/promote", json={"version": "1.1"})
    assert (refused.status_code, refused.json()["detail"]) == (503, "broken archive")
    assert world.champions() == ["1.0"]


@pytest.mark.parametrize(
    "call",
    [
        *(f"/models/{MODEL}/{call}" for call in ("retrain", "challenge", "promote", "rollback")),
        "/jobs/1/cancel",
        "/alerts",
    ],
)
def test_what_changes_something_needs_the_token(world: World, call: str) -> None:
    client = world.client_with(Access(Credentials("secret")))
    assert client.post(call, json={}).status_code == 401
    assert client.post(call, json={}, headers={"Authorization": "Bearer secret"}).status_code != 401
    assert client.get("/jobs").status_code == 200


def test_a_firing_alert_that_asks_for_it_queues_a_retraining_of_its_model(world: World) -> None:
    told = world.client.post("/alerts", json=notification(alert(metric="rmse"), alert(metric="mae")))
    assert told.status_code == 200
    first, second = told.json()
    assert first == second
    assert (first["outcome"], first["model"], first["job"]) == ("queued", MODEL, 1)
    job = world.job()
    assert (job.trigger, job.reason) == ("alert", "ModelQualityFell: it errs more")
    (again,) = world.client.post("/alerts", json=notification(alert())).json()
    assert (again["outcome"], again["detail"]) == ("refused", "job 1 of doubling is queued: one at a time")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (alert("resolved"), "it does not fire"),
        (alert(retrain=""), 'it has no labels retrain="on" and model'),
        (alert(retrain="off"), 'it has no labels retrain="on" and model'),
        (alert(model=""), 'it has no labels retrain="on" and model'),
        (alert(version="0.9"), "it is about 0.9, which is no longer served: 1.0 is"),
    ],
)
def test_other_alerts_are_ignored(world: World, given: dict[str, Any], why: str) -> None:
    (outcome,) = world.client.post("/alerts", json=notification(given)).json()
    assert (outcome["outcome"], outcome["detail"]) == ("ignored", why)
    assert world.store.journal.jobs() == []


def test_what_is_no_webhook_is_refused(world: World) -> None:
    odd = {"status": "odd", "labels": {}}
    bodies: list[Any] = [[], {}, {"version": "3", "alerts": []}, {"version": "4", "alerts": [odd]}]
    for body in bodies:
        assert world.client.post("/alerts", json=body).status_code == 422


def test_metrics_tell_jobs_promotions_and_champions_also_after_a_restart(world: World) -> None:
    registry = CollectorRegistry()
    registry.register(RetrainingMetrics(world.store.journal, world.models))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"model": MODEL} | labels)

    assert value("model_promotions_total") == 0
    assert value("retrain_running") == 0
    assert value("model_champion_info", version="1.0") == 1
    world.promote()
    world.promotions.rollback(MODEL, "hand")
    world.versions.better = False
    world.promote("1.2")
    world.request()
    assert value("retrain_jobs", state="rolled_back") == 1
    assert value("retrain_jobs", state="refused") == 1
    assert value("retrain_running") == 1
    assert value("model_promotions_total") == 1
    assert value("model_rollbacks_total") == 1
    assert value("retrain_refusals_total") == 1
    assert value("model_champion_info", version="1.1") is None
    world.models.path.write_text("{")
    assert b"model_promotions_total{" not in generate_latest(registry)
