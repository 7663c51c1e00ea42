"""From a client's request through a real TorchServe into the monitor's store, and its truth after it."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.tune.candidates import Candidate, registered
from monitoring.store.database import database_url
from monitoring.store.predictions import open_store
from monitoring.store.records import Prediction
from serving.hosts.torchserve.management import Management
from serving.registry import Registry
from serving.settings import ROOT
from tests.integration.conftest import Server, monitored
from tests.support.waiting import wait_until

FLIGHT = {"distance": 1400, "hour": 8, "carrier": "UA", "origin": "EWR", "dest": "IAH"}
TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def own(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A TorchServe that captures, and its monitor, which probes all the time and asks for a token."""
    variables = {"MARLOOP_TOKEN": "secret", "MARLOOP_PROBE_INTERVAL": "0.2"}
    with monitored(store, tmp_path_factory.mktemp("feedback") / "runs", variables) as server:
        yield server


def ask(server: Server, model: str, id: str, **request: Any) -> Any:
    """The answer to a request under an id of the client's."""
    headers = {"X-Request-Id": id} | request.pop("headers", {})
    route = request.pop("route", f"/predictions/{model}")
    response = server.client.post(f"{server.url}{route}", headers=headers, **request)
    assert response.status_code == 200, response.text
    return response.json()


def counts(server: Server) -> dict[str, tuple[int, int]]:
    """Predictions and labels by model, as the monitor tells them."""
    models = httpx.get(f"{server.settings.monitor_url}/models").json()
    return {one["name"]: (one["predictions"], one["labelled"]) for one in models}


def kept(server: Server, model: str) -> list[Prediction]:
    store = open_store(database_url({}, server.settings.run_dir))
    try:
        return store.predictions(model)
    finally:
        store.close()


def is_kept(server: Server, model: str, id: str) -> bool:
    return id in {one.request_id for one in kept(server, model)}


def tell(server: Server, *labels: dict[str, Any], headers: dict[str, str] = TOKEN) -> httpx.Response:
    return httpx.post(f"{server.settings.monitor_url}/feedback", json=list(labels), headers=headers)


def test_predictions_and_their_feedback_meet_in_the_store(own: Server) -> None:
    taken = tell(own, {"request_id": "line-1", "label": 14})  # before its prediction
    assert taken.json() == {"accepted": 1, "duplicates": 0, "waiting": 1}
    line = ask(own, "linear", "line-1", json={"x": 7})
    flights = ask(own, "flights", "trip", json={"instances": [FLIGHT] * 3}, route="/v1/models/flights:predict")
    picture = (ROOT / "docs" / "examples" / "boot.png").read_bytes()
    boot = ask(own, "fashion", "boot", content=picture, headers={"Content-Type": "image/png"})
    wait_until(lambda: counts(own) == {"fashion": (1, 0), "flights": (3, 0), "linear": (1, 1)})
    rows = [{"request_id": "trip", "row": row, "label": 200 + row} for row in (0, 2)]
    assert tell(own, *rows, {"request_id": "boot", "label": "Ankle boot"}).json()["accepted"] == 3
    assert counts(own) == {"fashion": (1, 1), "flights": (3, 2), "linear": (1, 1)}

    (found,) = kept(own, "linear")
    assert (found.request_id, found.version, found.features) == ("line-1", "1.0", {"x": 7})
    assert found.output == line["prediction"]
    assert [(one.row, one.features, one.output) for one in kept(own, "flights")] == [
        (row, FLIGHT, flights["predictions"][row]) for row in range(3)
    ]
    (shown,) = kept(own, "fashion")
    assert shown.output["label"] == boot["prediction"]["label"]
    assert max(shown.output["probabilities"]) == boot["prediction"]["probability"]
    assert shown.features.keys() == {"image"}
    assert isinstance(shown.features["image"], float)


def test_without_a_clients_id_the_answers_own_is_the_one(own: Server) -> None:
    response = own.client.post(f"{own.url}/predictions/linear", json={"x": 1.5})
    id = response.headers["x-request-id"]
    wait_until(lambda: is_kept(own, "linear", id))


def test_a_contradiction_a_wrong_label_and_a_caller_without_the_token_are_refused(own: Server) -> None:
    ask(own, "linear", "line-2", json={"x": 2})
    wait_until(lambda: is_kept(own, "linear", "line-2"))
    assert tell(own, {"request_id": "line-2", "label": "four"}).status_code == 422
    assert tell(own, {"request_id": "line-2", "label": 4}, headers={}).status_code == 401
    assert tell(own, {"request_id": "line-2", "label": 4}).status_code == 200
    assert tell(own, {"request_id": "line-2", "label": 5}).status_code == 409


def test_what_was_captured_is_counted_and_probes_are_not_captured(own: Server) -> None:
    ask(own, "linear", "last", json={"x": 3})
    wait_until(lambda: is_kept(own, "linear", "last"))
    captured = 'model_captured_rows_total{model="linear",version="1.0"}'

    def told() -> float:
        lines = httpx.get(f"{own.settings.exporter_url}/metrics").text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(captured)), 0.0)

    wait_until(lambda: told() == len(kept(own, "linear")))
    assert httpx.get(f"{own.settings.monitor_url}/readyz").status_code == 200  # it probes
    assert all(one.features != {"x": 6.0} for one in kept(own, "linear"))


def test_a_copy_that_is_tried_out_under_another_name_is_not_captured(own: Server) -> None:
    models = Registry(own.settings.model_store)
    archive = models.verify(models.champions()["linear"][1]).read_bytes()
    management = Management(own.settings.management_address, own.client)
    with registered(management, own.settings.model_store, archive, Candidate(), "linear-tried") as copy:
        ask(own, copy, "tried", json={"x": 1})
        for id in ("after-1", "after-2"):  # a worker sends twice a second, so that "tried" would be here too
            ask(own, "linear", id, json={"x": 1})
            wait_until(functools.partial(is_kept, own, "linear", id))
    assert not is_kept(own, "linear", "tried")
