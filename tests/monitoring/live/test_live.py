"""Quality and drift of what is in the store, as gauges and over HTTP."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest

from handlers.contract import ModelContract
from monitoring.api.quality import live_router
from monitoring.live.drift import KINDS, Drift
from monitoring.live.limits import expected
from monitoring.live.live import Live, QualityWindow
from monitoring.live.metrics import GAUGES, LiveMetrics
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store, open_store
from monitoring.store.records import Feedback, Labelled
from serving.registry import Registry
from tests.support.documents import evaluated
from tests.support.monitoring.drifting import FEWEST, NOW, classification, regression, rows
from tests.support.serving.stores import add, add_contract, alter
from tests.support.waiting import wait_until

AIR, CLOTHES = regression(), classification()


class World:
    """Two models that know 8,000 rows each, an empty store, and who looks at them."""

    def __init__(self, folder: Path) -> None:
        self.models = Registry(folder / "models")
        self.paths = [add_contract(self.models, contract) for contract in (AIR, CLOTHES)]
        self.store = open_store(f"sqlite:///{folder / 'monitor.db'}")
        contracts, window = Contracts(self.models), QualityWindow()
        self.live = Live(self.store, contracts, window, lambda: NOW, lambda: NOW)
        self.metrics = CollectorRegistry()
        self.metrics.register(LiveMetrics(self.live))
        app = FastAPI()
        app.include_router(live_router(self.live, contracts, window))
        self.client = TestClient(app)

    def value(self, gauge: str, **labels: str) -> float | None:
        return self.metrics.get_sample_value(gauge, labels)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.store.close()


@pytest.mark.parametrize(
    ("held_out", "learned", "least"),
    [
        ({"rmse": 7.2}, {"rmse": 11.0}, {"rmse": 11.0}),  # calm days were held out
        ({"rmse": 15.0}, {"rmse": 11.0}, {"rmse": 15.0}),
        ({"accuracy": 0.9}, {"accuracy": 0.99}, {"accuracy": 0.9}),
        ({"accuracy": 0.99, "cost": 3}, {"accuracy": 0.9}, {"accuracy": 0.9, "cost": 3}),
    ],
)
def test_what_is_expected_is_the_worse_of_held_out_and_learned_rows(
    held_out: dict[str, float], learned: dict[str, float], least: dict[str, float]
) -> None:
    assert expected(evaluated(held_out, learned={"rows": 9, "metrics": learned})) == least
    assert expected(evaluated(held_out)) == held_out


def keep(store: Store, labelled: list[Labelled]) -> None:
    store.add_predictions(one.prediction for one in labelled)
    answers = [Feedback(one.prediction.request_id, one.prediction.row, one.label, one.labelled) for one in labelled]
    store.add_feedback(answers)


def test_gauges_tell_the_quality_of_each_version_with_its_interval_and_what_training_found(world: World) -> None:
    keep(world.store, rows(AIR, 300))
    keep(world.store, rows(CLOTHES, 200, seed=2))
    world.live.run()
    rmse = {"model": "air", "version": "1.0", "metric": "rmse"}
    low, value, high = (world.value(f"model_quality{end}", **rmse) for end in ("_low", "", "_high"))
    assert low is not None
    assert value is not None
    assert high is not None
    assert 0.8 < low < value < high < 1.2
    assert world.value("model_quality_expected", **rmse) == 1.0
    assert value < (world.value("model_quality_limit", **rmse) or 0) < 1.3
    assert world.value("model_quality_hours", model="air", version="1.0") == 1
    assert world.value("model_quality_rows", model="air", version="1.0") == 300
    assert world.value("model_label_delay_seconds", model="clothes", version="1.0") == 3600
    accuracy = world.value("model_quality", model="clothes", version="1.0", metric="accuracy")
    assert accuracy == pytest.approx(0.9, abs=0.06)
    assert world.value("model_live_timestamp_seconds", model="air") == NOW.timestamp()


def test_gauges_tell_which_kind_drifts_and_whether_it_could_be_judged(world: World) -> None:
    keep(world.store, rows(AIR, shares=(0.2, 0.3, 0.5)))
    keep(world.store, rows(CLOTHES, FEWEST - 1, seed=2))
    world.live.run()
    alarms = {kind: world.value("model_drift_alarm", model="air", kind=kind) for kind in KINDS}
    assert alarms == {"features": 1, "predictions": 0, "errors": 0}
    assert [world.value("model_drift_judged", model="air", kind=kind) for kind in KINDS] == [1, 1, 1]
    assert [world.value("model_drift_judged", model="clothes", kind=kind) for kind in KINDS] == [0, 0, 0]
    assert [world.value("model_drift_alarm", model="clothes", kind=kind) for kind in KINDS] == [0, 0, 0]
    carrier = {"model": "air", "feature": "carrier", "test": "js"}
    found, most = world.value("model_drift_statistic", **carrier), world.value("model_drift_limit", **carrier)
    assert found is not None
    assert most is not None
    assert found > most > 0
    assert (world.value("model_drift_psi", model="air", feature="carrier") or 0) > 0.1
    assert world.value("model_drift_rows", model="clothes", feature="error") == FEWEST - 1


def test_what_is_no_longer_served_leaves_no_series_behind(world: World) -> None:
    keep(world.store, rows(AIR, 10))
    world.live.run()
    assert world.value("model_quality_rows", model="air", version="1.0") == 10
    with world.models.change() as models:
        del models["air"]
    world.live.run()
    assert 'model="air"' not in generate_latest(world.metrics).decode()
    assert 'model="clothes"' in generate_latest(world.metrics).decode()


def test_every_gauge_is_described_before_the_first_look(world: World) -> None:
    text = generate_latest(world.metrics).decode()
    assert all(f"# TYPE {name} gauge" in text for name in GAUGES)


def test_rows_that_do_not_fit_the_contract_are_left_out_and_counted(world: World) -> None:
    known = rows(CLOTHES, 10, seed=2)
    keep(world.store, known[1:])
    world.store.add_predictions([known[0].prediction])
    world.store.add_feedback([Feedback("seed-2", 0, "a shoe that the contract does not know", NOW)])
    odd = replace(known[0].prediction, request_id="odd", output={"label": "gone", "probabilities": [1.0]})
    world.store.add_predictions([odd, replace(odd, request_id="x", features={"distance": "abc", "carrier": 2**60})])
    world.store.add_feedback([Feedback("odd", 0, known[1].label, NOW), Feedback("x", 0, 3.5, NOW)])
    world.live.run()
    assert world.value("model_quality_rows", model="clothes", version="1.0") == 9
    assert world.value("model_quality_left_out_rows", model="clothes") == 3
    assert world.live.last["clothes"].drift.findings


def test_a_row_of_the_future_that_a_former_version_kept_is_no_newest_row(world: World) -> None:
    known = rows(AIR, 10)
    keep(world.store, known)
    world.store.add_predictions([replace(known[0].prediction, request_id="2099", time=NOW + timedelta(days=31_000))])
    world.store.add_feedback([Feedback("2099", 0, known[0].label, NOW)])
    world.live.run()
    assert world.value("model_quality_rows", model="air", version="1.0") == 10
    until = world.live.last["air"].drift.until
    assert until
    assert until <= NOW


def test_a_model_that_cannot_be_looked_at_hides_no_other(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(world.store, rows(AIR, 10))
    drift = world.live.drift

    def fail(contract: ModelContract) -> Drift:
        if contract.name == "clothes":
            raise ValueError("as a fault of ours would")
        return drift(contract)

    monkeypatch.setattr(world.live, "drift", fail)
    world.live.run()
    assert set(world.live.last) == {"air"}
    assert "cannot tell the quality and drift of clothes" in caplog.text
    add(world.models)  # without a reference
    world.live.run()
    assert set(world.live.last) == {"air", "doubling"}
    assert world.live.last["doubling"].drift.findings == ()


def test_it_looks_until_it_is_told_to_stop_and_outlives_a_damaged_registry(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    content = (world.models.store / "registry.json").read_bytes()
    (world.models.store / "registry.json").write_text("{")
    stop = threading.Event()
    thread = threading.Thread(target=world.live.run_forever, args=(0.01, stop))
    with caplog.at_level(logging.ERROR):
        thread.start()
        wait_until(lambda: "cannot tell quality and drift" in caplog.text)
        (world.models.store / "registry.json").write_bytes(content)
        wait_until(lambda: set(world.live.last) == {"air", "clothes"})
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_the_quality_is_told_over_http_in_a_window_of_the_callers_choice(world: World) -> None:
    keep(world.store, rows(AIR, 300))
    found = world.client.get("/models/air/quality").json()
    assert found["all"]["rows"] == found["versions"]["1.0"]["rows"] == 300
    assert found["all"]["metrics"].keys() == {"rmse", "mae", "bias"}
    assert found["all"]["metrics"]["rmse"].keys() == {"value", "low", "high"}
    assert found["all"]["until"] == "2013-02-17T11:59:59Z"
    assert world.client.get("/models/air/quality", params={"rows": 7}).json()["all"]["rows"] == 7
    assert world.client.get("/models/air/quality", params={"hours": 60 / 3600}).json()["all"]["rows"] == 60
    assert world.client.get("/models/air/quality", params={"hours": -1}).status_code == 422
    assert world.client.get("/models/clothes/quality").json() == {"model": "clothes", "all": None, "versions": {}}


def test_the_drift_is_told_over_http(world: World) -> None:
    keep(world.store, rows(AIR, shift=1))
    found = world.client.get("/models/air/drift").json()
    assert found["alarm"] is True
    assert found["alarms"] == {"features": True, "predictions": True, "errors": False}
    assert [one["name"] for one in found["findings"]] == ["distance", "carrier", "prediction", "error"]
    assert found["findings"][0]["needed"] == FEWEST
    empty = world.client.get("/models/clothes/drift").json()
    assert (empty["alarm"], empty["alarms"], empty["since"]) == (False, {}, None)


@pytest.mark.parametrize("what", ["quality", "drift"])
def test_an_unknown_model_is_a_404_that_names_the_known_ones(world: World, what: str) -> None:
    response = world.client.get(f"/models/shoes/{what}")
    assert response.status_code == 404
    assert response.json()["detail"] == "the model 'shoes' is unknown, there is only air, clothes"
    alter(world.paths[0])
    assert "has no archive that can be read" in world.client.get(f"/models/air/{what}").json()["detail"]


def test_the_window_is_read_from_the_environment() -> None:
    assert QualityWindow.from_environment({"MARLOOP_QUALITY_HOURS": ""}) == QualityWindow()
    names = {"MARLOOP_QUALITY_HOURS": "0.5", "MARLOOP_QUALITY_ROWS": "10"}
    assert QualityWindow.from_environment(names) == QualityWindow(0.5, 10)


@pytest.mark.parametrize("variable", ["MARLOOP_QUALITY_HOURS", "MARLOOP_QUALITY_ROWS"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1e6", "9" * 12])
def test_what_is_no_positive_number_is_refused_by_its_name(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{variable} is '{value}'; it must be"):
        QualityWindow.from_environment({variable: value})
