"""The services of docker-compose.yml under a project name and on ports of the test's own."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.compose.docker import Docker

# All but Grafana, which is only of use to people, and Locust.
SERVICES = ("torchserve", "exporter", "monitor", "database", "prometheus", "alertmanager")
# Of these tests alone: health checks and probes ask in the native format.
ANSWERED = 'sum(model_requests_total{model="linear",protocol="v1",code="200"})'
MARLOOP = ("torchserve", "exporter", "monitor")


@dataclass(frozen=True)
class Stack:
    """A running project of Compose.

    Attributes:
        docker: whose environment sets ports, image and password.
        project: its name.
        inference: URL of the published inference port.
        monitor: URL of the published monitor.
    """

    docker: Docker
    project: str
    inference: str
    monitor: str

    def compose(self, *arguments: str, timeout: float = 300) -> str:
        """Run one command of Compose; an AssertionError if it fails."""
        return self.docker.check("compose", "-p", self.project, *arguments, timeout=timeout)

    def execute(self, service: str, *command: str) -> str:
        """Run a command inside a service's container."""
        return self.compose("exec", "-T", service, *command)

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of a service's container, a stopped one too."""
        container = self.compose("ps", "--all", "--quiet", service)
        found: list[dict[str, Any]] = json.loads(self.docker.check("inspect", container))
        return found[0]

    def double(self, x: float) -> Any:
        """Ask `linear`, from outside: the answer, or None if there is none."""
        try:
            response = httpx.post(f"{self.inference}/v1/models/linear:predict", json={"instances": [{"x": x}]})
        except httpx.HTTPError:
            return None
        return response.json()["predictions"][0] if response.status_code == 200 else None

    def flight(self) -> httpx.Response:
        """Ask `flights`, from outside."""
        flight = {"distance": 1400, "hour": 8, "carrier": "UA", "origin": "EWR", "dest": "IAH"}
        return httpx.post(f"{self.inference}/predictions/flights", json=flight)

    def query(self, expression: str) -> float | None:
        """The value of an expression in Prometheus, asked from inside; None where it has none."""
        url = str(httpx.URL("http://127.0.0.1:9090/api/v1/query", params={"query": expression}))
        answer = json.loads(self.execute("prometheus", "wget", "-q", "-O", "-", url))
        assert answer["status"] == "success", answer
        return float(answer["data"]["result"][0]["value"][1]) if answer["data"]["result"] else None

    def workers(self) -> set[int]:
        """Process ids of the host's workers, as its container numbers them."""
        return self._processes("'--sock-name' in command or 'serving.hosts.direct.worker' in command")

    def frontend(self) -> int:
        """Process id of TorchServe's frontend."""
        (found,) = self._processes("'org.pytorch.serve.ModelServer' in command")
        return found

    def _processes(self, condition: str) -> set[int]:
        script = "import psutil; print(*(p.pid for p in psutil.process_iter() if (command := p.cmdline()) and ({})))"
        return {int(pid) for pid in self.execute("torchserve", "python", "-c", script.format(condition)).split()}


def ready(stack: Stack) -> dict[str, str]:
    """What the monitor's probes find, by model and version."""
    return dict(httpx.get(f"{stack.monitor}/readyz").json()["models"])


def served(stack: Stack) -> dict[str, list[str]]:
    """The versions of each model that TorchServe serves, asked from the monitor."""
    script = """
import json, os, httpx
from serving.hosts.torchserve.management import Management
from serving.settings import Settings

address = Settings.from_environment(os.environ).management_address
print(json.dumps(Management(address, httpx.Client(timeout=30)).versions()))
"""
    found: dict[str, list[str]] = json.loads(stack.execute("monitor", "python", "-c", script))
    return found
