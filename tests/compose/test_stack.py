"""The stack, brought up for real: what it answers, what it keeps closed, what it survives."""

import re
import time

import httpx
import pytest

from tests.compose.conftest import SECRETS
from tests.compose.stack import ANSWERED, MARLOOP, SERVICES, Stack, ready, served
from tests.support.waiting import wait_until

pytestmark = pytest.mark.compose
RECOVERY = 120.0  # s


def test_it_predicts_through_the_published_port(stack: Stack) -> None:
    assert stack.double(6) == pytest.approx(12, abs=0.01)
    response = stack.flight()
    assert response.status_code == 200, response.text
    assert 180 < response.json()["prediction"] < 240


def test_the_monitor_finds_every_model_ready(stack: Stack) -> None:
    wait_until(lambda: httpx.get(f"{stack.monitor}/readyz").status_code == 200)


def test_the_console_shows_the_models_with_what_the_image_holds(stack: Stack) -> None:
    page = httpx.get(f"{stack.monitor}/")
    assert page.status_code == 200
    assert "flights" in page.text
    assets = re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css)[^"]*)"', page.text)
    assert assets
    assert {httpx.get(f"{stack.monitor}{path}").status_code for path in assets} == {200}


def test_a_prediction_and_its_feedback_meet_in_the_database(stack: Stack) -> None:
    known = labelled(stack)
    asked = {"json": {"x": 21}, "headers": {"X-Request-Id": "compose-21"}}
    assert httpx.post(f"{stack.inference}/predictions/linear", **asked).status_code == 200  # type: ignore[arg-type]
    truth = {"request_id": "compose-21", "label": 42}
    assert httpx.post(f"{stack.monitor}/feedback", json=truth).status_code == 401
    token = {"Authorization": f"Bearer {SECRETS['MARLOOP_TOKEN']}"}
    assert httpx.post(f"{stack.monitor}/feedback", json=truth, headers=token).status_code == 200
    wait_until(lambda: labelled(stack) == known + 1, poll=0.5)
    statement = "SELECT label FROM feedback WHERE request_id = 'compose-21'"
    assert stack.execute("database", "psql", "-U", "marloop", "-tAc", statement) == "42.0"


def test_prometheus_counts_exactly_the_requests_that_were_answered(stack: Stack) -> None:
    assert stack.double(0) is not None
    before = counted(stack)
    assert before > 0
    for x in range(10):
        assert stack.double(x) is not None
    wait_until(lambda: stack.query(ANSWERED) == before + 10, poll=1)


@pytest.mark.parametrize("job", ["torchserve", "exporter", "monitor", "alertmanager"])
def test_prometheus_scrapes(stack: Stack, job: str) -> None:
    wait_until(lambda: stack.query(f'up{{job="{job}"}}') == 1, poll=1)


def test_alertmanager_is_told_of_by_prometheus(stack: Stack) -> None:
    wait_until(lambda: stack.query("prometheus_notifications_alertmanagers_discovered") == 1, poll=1)


@pytest.mark.parametrize("service", SERVICES)
def test_inside_nobody_is_root_and_the_root_cannot_be_written(stack: Stack, service: str) -> None:
    assert stack.execute(service, "id", "-u") != "0"
    attempt = stack.execute(service, "sh", "-c", "touch /written 2>&1 || echo refused")
    assert "Read-only file system" in attempt
    assert attempt.endswith("refused")
    assert stack.execute(service, "grep", "-E", "^(CapEff|NoNewPrivs)", "/proc/self/status").split() == [
        *("CapEff:", "0000000000000000", "NoNewPrivs:", "1")
    ]


def test_secrets_are_files_and_no_environment_has_one(stack: Stack) -> None:
    assert stack.execute("alertmanager", "cat", "/run/secrets/marloop_token") == SECRETS["MARLOOP_TOKEN"]
    for service in SERVICES:
        environment = stack.inspect(service)["Config"]["Env"]
        assert not any(secret in line for line in environment for secret in SECRETS.values()), service
    held = stack.execute("torchserve", "ls", "/run/secrets").split()
    assert held == ["marloop_events_token"]


def test_what_nobody_set_is_not_in_the_environment(stack: Stack) -> None:
    names = {line.partition("=")[0] for line in stack.execute("torchserve", "env").splitlines()}
    assert "MARLOOP_PUBLISHED_ADDRESS" in names
    assert not {name for name in names if name.startswith("OTEL_")}


def test_the_monitor_writes_models_and_reaches_the_management_socket(stack: Stack) -> None:
    stack.execute("monitor", "sh", "-c", "touch /models/written /work/written && rm /models/written /work/written")
    assert set(served(stack)) == {"linear", "flights"}


@pytest.mark.parametrize(
    ("service", "said"),
    [("torchserve", "as expected"), ("exporter", "exporter: runs for"), ("monitor", "finds the models ready")],
)
def test_marloop_status_in_a_container_tells_that_its_part_is_well(stack: Stack, service: str, said: str) -> None:
    assert said in stack.execute(service, "marloop", "status")


def test_our_user_is_always_the_same(stack: Stack) -> None:
    assert {stack.execute(service, "id", "-u") for service in MARLOOP} == {"10001"}


def test_outside_only_inference_and_monitor_are_open(stack: Stack) -> None:
    bindings = {
        (service, port, binding["HostIp"])
        for service in SERVICES
        for port, found in stack.inspect(service)["NetworkSettings"]["Ports"].items()
        for binding in found or []
    }
    assert bindings == {("torchserve", "8080/tcp", "127.0.0.1"), ("monitor", "8090/tcp", "127.0.0.1")}


def test_no_port_manages_torchserve_and_its_socket_is_its_users_alone(stack: Stack) -> None:
    ask = "wget -q -T 5 -O /dev/null http://torchserve:{}/{} 2>/dev/null && echo open || echo closed"
    assert stack.execute("prometheus", "sh", "-c", ask.format(8082, "metrics")) == "open"
    for port in (8081, 7071):
        assert stack.execute("prometheus", "sh", "-c", ask.format(port, "models")) == "closed"
    assert stack.execute("torchserve", "stat", "-c", "%a %u %F", "/control") == "700 10001 directory"


def test_a_new_version_takes_over_while_torchserve_runs(stack: Stack) -> None:
    started = stack.inspect("torchserve")["State"]["StartedAt"]
    before = ready(stack)
    stack.compose("run", "--rm", "train", "marloop", "train", "linear")
    wait_until(lambda: ready(stack).keys() != before.keys(), poll=0.5)
    assert len(ready(stack)) == len(before) == 2
    wait_until(lambda: set(ready(stack).values()) == {"as expected"}, poll=0.5)
    assert stack.inspect("torchserve")["State"]["StartedAt"] == started


def test_a_killed_worker_comes_back_and_no_count_goes_back(stack: Stack) -> None:
    assert stack.double(1) is not None
    count, workers = counted(stack), stack.workers()
    assert len(workers) == 2
    stack.execute("torchserve", "sh", "-c", f"kill -9 {' '.join(map(str, workers))}")
    wait_until(lambda: not workers & stack.workers() and stack.double(6) is not None, timeout=RECOVERY, poll=0.5)
    assert stack.inspect("torchserve")["RestartCount"] == 0
    wait_until(lambda: (stack.query(ANSWERED) or 0) > count, poll=1)


def test_a_killed_torchserve_comes_back_and_is_watched_again(stack: Stack) -> None:
    before, killed = stack.inspect("torchserve"), stack.frontend()
    stack.execute("torchserve", "sh", "-c", f"kill -9 {killed}")
    wait_until(lambda: stack.double(6) is not None, timeout=RECOVERY, poll=0.5)
    assert stack.frontend() != killed
    # The supervisor in the container starts it anew, not Docker.
    assert stack.inspect("torchserve")["RestartCount"] == before["RestartCount"]
    wait_until(lambda: stack.inspect("torchserve")["State"]["Health"]["Status"] == "healthy", timeout=RECOVERY, poll=1)
    wait_until(lambda: httpx.get(f"{stack.monitor}/readyz").status_code == 200)
    wait_until(lambda: (stack.query(ANSWERED) or 0) >= 1, poll=1)


def test_sigterm_ends_torchserve_by_itself_and_a_new_start_trains_nothing_again(stack: Stack) -> None:
    stack.compose("stop", "torchserve")
    assert stack.inspect("torchserve")["State"]["ExitCode"] == 0  # 128 + 9 had it to be killed
    stack.compose("up", "--detach", "--wait", "torchserve")
    assert stack.double(6) is not None
    assert "fitting" not in stack.compose("logs", "--since", "1m", "train")


def labelled(stack: Stack) -> int:
    """Rows of `linear` whose truth is known."""
    models = httpx.get(f"{stack.monitor}/models").json()
    return sum(one["labelled"] for one in models if one["name"] == "linear")


def counted(stack: Stack) -> float:
    """The requests that were answered up to now, once Prometheus has scraped them all."""
    now = time.time()
    wait_until(lambda: (stack.query('timestamp(up{job="exporter"})') or 0) > now, poll=1)
    return stack.query(ANSWERED) or 0
