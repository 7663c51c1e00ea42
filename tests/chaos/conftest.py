"""The whole service as a user starts it, by its own commands, on free ports; each fault gets it whole again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.hosts.torchserve import background
from serving.settings import ROOT, Settings
from serving.supervision import companion
from tests.chaos.load import Question
from tests.integration.conftest import settings_for
from tests.integration.conftest import store as store
from tests.support.waiting import wait_until

LINEAR = Question("/predictions/linear", {"x": 6}, {"prediction": 11.999998})
COMMANDS = ("serving", "monitoring")


class Stack:
    """A running service.

    Args:
        settings: of its ports and folders.
        variables: of the environment of every part, beside these.
    """

    def __init__(self, settings: Settings, variables: Mapping[str, str]) -> None:
        self.settings = settings
        self.environment = os.environ | settings.to_environment() | dict(variables)

    def run(self, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run ``python -m`` with these arguments as the user does."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def up(self) -> None:
        """Do what ``make up`` does after training."""
        for command in COMMANDS:
            done = self.run(command, "up")
            assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        """Do what ``make down`` does."""
        for command in reversed(COMMANDS):
            self.run(command, "down")

    def part(self, name: str) -> psutil.Process:
        """The process of torchserve, exporter or monitor."""
        from serving.supervision.companion import monitor

        finders = {
            "torchserve": lambda: background.find(self.settings),
            "exporter": lambda: companion.exporter(self.settings).find(self.settings),
            "monitor": lambda: monitor(self.settings).find(self.settings),
        }
        process = finders[name]()
        assert process is not None, f"the {name} does not run"
        return process

    def answers(self, name: str) -> bool:
        """Whether a part answers its health check within two seconds."""
        urls = {
            "torchserve": f"{self.settings.inference_url}/ping",
            "exporter": f"{self.settings.exporter_url}/healthz",
            "monitor": f"{self.settings.monitor_url}/healthz",
        }
        try:
            return httpx.get(urls[name], timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def ready(self) -> bool:
        """What the monitor says of the service's readiness."""
        try:
            return httpx.get(f"{self.settings.monitor_url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def worker(self, model: str) -> psutil.Process:
        """A living worker of a model, which the exporter knows by its process id."""
        text = httpx.get(f"{self.settings.exporter_url}/metrics", timeout=10, trust_env=False).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        memory = [sample.labels for sample in samples if sample.name == "process_resident_memory_bytes"]
        return psutil.Process(next(int(labels["pid"]) for labels in memory if labels["model"] == model))


@pytest.fixture(scope="session")
def running(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The service with linear, flights and fashion."""
    folder = tmp_path_factory.mktemp("chaos")
    own = Path(shutil.copytree(store, folder / "store"))
    stack = Stack(settings_for(own, folder / "run"), {"MARLOOP_RUNS": str(folder / "runs")})
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


@pytest.fixture
def stack(running: Stack) -> Stack:
    """The service, ready: what an earlier fault left is mended by ``up`` before the next one is made."""
    if not running.ready():
        running.up()
    wait_until(running.ready)
    return running
