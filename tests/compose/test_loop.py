"""The closed loop in the stack: an alert or a hand asks, the monitor's container trains, a judge decides."""

import math
import time
from typing import Any

import httpx
import orjson
import pytest

from tests.compose.conftest import SECRETS
from tests.compose.stack import Stack, served
from tests.support.waiting import wait_until

pytestmark = pytest.mark.compose
PARTS, ROWS = (
    5,
    50,
)  # as many rows in all as a retraining takes here; the first part is learned, the others are held out
TOKEN = {"Authorization": f"Bearer {SECRETS['MARLOOP_TOKEN']}"}
LONGEST = 300.0  # s for a retraining
FLIGHT = {"distance": 1400, "hour": 8, "carrier": "UA", "origin": "EWR", "dest": "IAH"}


def test_an_alert_has_a_model_learn_what_its_clients_told_and_serves_that(stack: Stack) -> None:
    for part in range(PARTS):
        rows = [{"x": 4 * i / ROWS} for i in range(ROWS)]
        predict(stack, "linear", f"moved-{part}", rows)
        tell(stack, "linear", f"moved-{part}", [2 * row["x"] + 3 + 0.1 * math.sin(7 * row["x"]) for row in rows])
    champion = served(stack)["linear"]
    send_alert(stack, {"alertname": "ModelQualityFell", "severity": "critical", "retrain": "on", "model": "linear"})
    wait_until(lambda: asked(stack, "linear") != [], poll=0.5)
    (job,) = asked(stack, "linear")
    assert job["trigger"] == "alert"
    job = ended(stack, job["id"])
    assert job["state"] == "promoted", job
    assert job["result"]["verdict"]["gain_low"] > 0
    assert job["result"]["shadow"]["errors"] == 0
    assert served(stack)["linear"] == [job["result"]["version"]] != champion
    assert abs(stack.double(3) - 9) < 2
    assert "promoted" in {one["kind"] for one in get(stack, "/decisions", model="linear")}


def test_a_rollback_by_hand_serves_the_former_version_again(stack: Stack) -> None:
    former = served(stack)["linear"]
    back = httpx.post(f"{stack.monitor}/models/linear/rollback", headers=TOKEN, timeout=120)
    assert back.status_code == 200, back.text
    assert back.json() == {"model": "linear", "champion": served(stack)["linear"][0], "former": former[0]}
    assert stack.double(6) == pytest.approx(12, abs=0.01)


def test_a_retraining_that_can_make_nothing_better_is_refused_and_leaves_its_log(stack: Stack) -> None:
    url = f"{stack.monitor}/models/flights/retrain"
    assert httpx.post(url).status_code == 401
    for part in range(PARTS):
        flights = [FLIGHT | {"distance": 200 + 40 * i, "hour": 6 + i % 15} for i in range(ROWS)]
        tell(stack, "flights", f"right-{part}", predict(stack, "flights", f"right-{part}", flights))
    answer = httpx.post(url, headers=TOKEN)
    assert answer.status_code == 202, answer.text
    champion = served(stack)["flights"]
    job = ended(stack, answer.json()["id"])
    assert job["state"] == "refused", job
    assert not job["result"]["verdict"]["promote"]
    assert served(stack)["flights"] == champion
    log = httpx.get(f"{stack.monitor}/jobs/{job['id']}/log", params={"offset": 0}).text
    assert "flights: fitting" in log


def predict(stack: Stack, model: str, name: str, rows: list[dict[str, Any]]) -> list[float]:
    """What the model answers to one request of all rows."""
    url, headers = f"{stack.inference}/v1/models/{model}:predict", {"X-Request-Id": name}
    answer = httpx.post(url, json={"instances": rows}, headers=headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["predictions"])


def tell(stack: Stack, model: str, name: str, labels: list[float]) -> None:
    """Tell the truth about a request and wait until it is known; what comes later is of a later second."""
    known = labelled(stack, model)
    told = [{"request_id": name, "row": row, "label": label} for row, label in enumerate(labels)]
    answer = httpx.post(f"{stack.monitor}/feedback", json=told, headers=TOKEN)
    assert answer.status_code == 200, answer.text
    wait_until(lambda: labelled(stack, model) == known + len(labels))
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, poll=0.02)


def labelled(stack: Stack, model: str) -> int:
    return sum(one["labelled"] for one in get(stack, "/models") if one["name"] == model)


def send_alert(stack: Stack, labels: dict[str, str]) -> None:
    """Have Alertmanager take an alert, as Prometheus does."""
    body = orjson.dumps([{"labels": labels, "annotations": {"summary": "a test says so"}}]).decode()
    post = ("wget", "-q", "-O", "-", "--header", "Content-Type: application/json", "--post-data", body)
    stack.execute("alertmanager", *post, "http://127.0.0.1:9093/api/v2/alerts")


def asked(stack: Stack, model: str) -> list[Any]:
    return list(get(stack, "/jobs", model=model))


def ended(stack: Stack, id: int) -> Any:
    """The job, once it has ended."""
    wait_until(lambda: get(stack, f"/jobs/{id}")["state"] not in ("queued", "running"), timeout=LONGEST, poll=0.5)
    return get(stack, f"/jobs/{id}")


def get(stack: Stack, path: str, **params: str) -> Any:
    answer = httpx.get(f"{stack.monitor}{path}", params=params, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()
