"""The closed loop on real processes: what was served and labelled is learned, judged, promoted and rolled back."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import psutil
import pytest

from monitoring.retraining.launch.place import TrainingPlace, launcher_of
from monitoring.retraining.launch.trainings import JobTrainings
from serving.hosts.ray import deployed
from serving.hosts.ray.settings import Place
from serving.hosts.torchserve.management import Management
from serving.registry import Registry
from serving.supervision.companion import monitor as companion
from tests.integration.conftest import RAY, Server, monitored, needs_ray
from tests.support.training.trainings import Trainings
from tests.support.waiting import wait_until
from training.recipes.linear import recipe

pytestmark = pytest.mark.loop

ROWS = 400  # of feedback that a training gets; half of them are held out
ENVIRONMENT = {
    "MARLOOP_CAPTURE_ROWS_PER_SECOND": "100000",
    "MARLOOP_LIVE_INTERVAL": "1",
    "MARLOOP_PROBE_INTERVAL": "0.5",
    "MARLOOP_RETRAIN_ROWS": str(ROWS),
    "MARLOOP_RETRAIN_MOST_ROWS": str(ROWS),
    "MARLOOP_RETRAIN_HOLDOUT": "0.5",
    "MARLOOP_JUDGE_LATENCY": "10",  # not what is looked at here, on a busy machine
}


@pytest.fixture(scope="module", params=["torchserve", RAY])
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A host with a line that learned y = 2x in a hurry, and its monitor; that of Ray's trains in the cluster too."""
    if request.param == "ray":
        needs_ray()
    folder = tmp_path_factory.mktemp("loop")
    Trainings(folder / "store")(recipe, "tutorial")
    variables = ENVIRONMENT | ({"MARLOOP_TRAIN_ON": "ray"} if request.param == "ray" else {})
    with monitored(folder / "store", folder / "runs", variables, request.param) as server:
        yield server


@pytest.fixture
def trainings(own: Server) -> Iterator[JobTrainings]:
    """The trainings of a monitor that has just begun."""
    launcher: Any = launcher_of(TrainingPlace.from_environment(os.environ), own.settings, os.environ)
    yield JobTrainings(own.settings, launcher)
    if own.settings.host == "ray":
        launcher._api._client.close()


def monitor(server: Server, method: str, path: str, **body: Any) -> Any:
    """What the monitor answers."""
    response = httpx.request(method, f"{server.settings.monitor_url}{path}", timeout=60, **body)
    assert response.status_code < 300, response.text
    return response.json()


def live(server: Server, name: str, labels: Sequence[tuple[float, float]]) -> None:
    """Ask for the line at each x, and tell its truth; what comes later is of a later second."""
    body = {"instances": [{"x": x} for x, _ in labels]}
    known = labelled(server)
    answer = server.client.post(f"{server.url}/v1/models/linear:predict", json=body, headers={"X-Request-Id": name})
    assert answer.status_code == 200, answer.text
    told = [{"request_id": name, "row": row, "label": label} for row, (_, label) in enumerate(labels)]
    monitor(server, "POST", "/feedback", json=told)
    wait_until(lambda: labelled(server) == known + len(labels))
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, poll=0.02)


def labelled(server: Server) -> int:
    return sum(one["labelled"] for one in monitor(server, "GET", "/models"))


def line(slope: float, offset: float, rows: int) -> list[tuple[float, float]]:
    """Points between 0 and 4 on a line, with a little noise that is always the same."""
    return [(4 * i / rows, slope * 4 * i / rows + offset + 0.1 * math.sin(7 * i)) for i in range(rows)]


def retrain(server: Server) -> int:
    return int(monitor(server, "POST", "/models/linear/retrain", json={"reason": "a test"})["id"])


def ended(server: Server, id: int) -> Any:
    """The job, once it has ended."""
    wait_until(lambda: monitor(server, "GET", f"/jobs/{id}")["state"] not in ("queued", "running"), timeout=300)
    return monitor(server, "GET", f"/jobs/{id}")


def answer_at(server: Server, x: float) -> float:
    return float(server.client.post(f"{server.url}/predictions/linear", json={"x": x}).json()["prediction"])


def served(server: Server) -> list[str]:
    if server.settings.host == "ray":
        return deployed.read(Place(server.settings)).served()["linear"]
    return Management(server.settings.management_address, server.client).versions()["linear"]


def champions(server: Server) -> list[str]:
    versions = Registry(server.settings.model_store).models()["linear"]
    return [number for number, version in versions.items() if version.state == "champion"]


def kill_monitor(server: Server) -> None:
    process = companion(server.settings).find(server.settings)
    assert process is not None
    process.kill()
    psutil.wait_procs([process], timeout=10)


def test_what_was_learned_is_promoted_though_the_monitor_is_killed_while_it_trains(
    own: Server, trainings: JobTrainings
) -> None:
    for part in range(4):
        live(own, f"moved-{part}", line(2, 3, ROWS // 4))
    assert abs(answer_at(own, 3) - 6) < 1
    id = retrain(own)
    wait_until(lambda: trainings.age(id) is not None)
    kill_monitor(own)
    assert trainings.age(id) is not None
    companion(own.settings).start(own.settings)
    job = ended(own, id)
    assert job["state"] == "promoted", (job, trainings.last_lines(id))
    assert job["result"]["attempts"] == 1
    assert job["result"]["verdict"]["gain_low"] > 0.5
    assert job["result"]["shadow"]["errors"] == 0
    assert "linear: " in httpx.get(f"{own.settings.monitor_url}/jobs/{id}/log").text
    assert (champions(own), served(own)) == (["1.1"], ["1.1"])
    assert abs(answer_at(own, 3) - 9) < 0.5
    assert [one["kind"] for one in monitor(own, "GET", "/decisions")] == ["promoted", "requested"]


def test_what_does_worse_than_the_former_version_would_is_rolled_back_by_itself(own: Server) -> None:
    for part in range(2):
        live(own, f"back-{part}", line(2, 0, ROWS // 4))
    wait_until(lambda: served(own) == ["1.0"], timeout=180)
    # On Ray the former version serves again some moments before the job says so.
    wait_until(lambda: monitor(own, "GET", "/jobs", params={"state": "rolled_back"}) != [])
    (job,) = monitor(own, "GET", "/jobs", params={"state": "rolled_back"})
    assert "1.0 would err" in job["result"]["watch"]["reason"]
    assert champions(own) == ["1.0"]
    assert abs(answer_at(own, 3) - 6) < 1
    assert monitor(own, "GET", "/decisions")[0]["details"]["who"] == "watch"


def test_what_learned_nonsense_is_refused_and_nobody_is_served_it(own: Server) -> None:
    for part in range(2):
        live(own, f"wrong-{part}", line(2, 20, ROWS // 4))
    for part in range(2):
        live(own, f"right-{part}", line(2, 0, ROWS // 4))
    job = ended(own, retrain(own))
    assert job["state"] == "refused", job
    assert not job["result"]["verdict"]["promote"]
    assert Registry(own.settings.model_store).models()["linear"]["1.2"].state == "refused"
    assert (champions(own), served(own)) == (["1.0"], ["1.0"])
    assert abs(answer_at(own, 3) - 6) < 1


def test_a_version_is_promoted_and_rolled_back_by_hand(own: Server) -> None:
    done = monitor(own, "POST", "/models/linear/promote", json={"version": "1.1"})
    assert done == {"model": "linear", "champion": "1.1", "former": "1.0"}
    assert (champions(own), served(own)) == (["1.1"], ["1.1"])
    assert abs(answer_at(own, 3) - 9) < 0.5
    done = monitor(own, "POST", "/models/linear/rollback")
    assert done == {"model": "linear", "champion": "1.0", "former": "1.1"}
    assert (champions(own), served(own)) == (["1.0"], ["1.0"])
    assert abs(answer_at(own, 3) - 6) < 1
    metrics = httpx.get(f"{own.settings.monitor_url}/metrics").text
    for sample in (
        'model_promotions_total{model="linear"} 2.0',
        'model_rollbacks_total{model="linear"} 2.0',
        'retrain_jobs{model="linear",state="refused"} 1.0',
        'model_champion_info{model="linear",version="1.0"} 1.0',
    ):
        assert sample in metrics


def test_the_end_of_the_monitor_leaves_no_training_behind_and_the_next_one_goes_on(
    own: Server, trainings: JobTrainings
) -> None:
    if own.settings.host == "ray":
        pytest.skip("a training in a cluster goes on without its monitor")
    id = retrain(own)
    wait_until(lambda: trainings.age(id) is not None)
    companion(own.settings).stop(own.settings)
    assert trainings.age(id) is None
    companion(own.settings).start(own.settings)
    wait_until(lambda: trainings.age(id) is not None)
    monitor(own, "POST", f"/jobs/{id}/cancel")
    assert ended(own, id)["state"] == "cancelled"
    assert trainings.age(id) is None


def test_a_torchserve_that_was_told_otherwise_is_brought_back_to_what_the_registry_says(own: Server) -> None:
    if own.settings.host == "ray":
        pytest.skip("Ray Serve is told by the registry alone")
    management = Management(own.settings.management_address, own.client)
    management.register("linear-1.2.mar", "linear", "1.2")
    management.set_default("linear", "1.2")
    wait_until(lambda: served(own) == ["1.0"])
