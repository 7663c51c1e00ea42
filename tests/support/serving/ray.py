"""A Ray of one node, apart from any host: for trainings, which need no Ray Serve."""

import contextlib
import importlib.util
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from serving.hosts.ray.launch import START
from serving.ports import free_ports
from serving.processes import running

PORTS = (
    *("port", "dashboard-port", "dashboard-agent-listen-port", "metrics-export-port"),
    *("dashboard-agent-grpc-port", "runtime-env-agent-port", "node-manager-port", "object-manager-port"),
)
OPTIONS = (
    *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=4", "--disable-usage-stats"),
    *("--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"),
)


@dataclass(frozen=True)
class Head:
    """A head that runs.

    Attributes:
        address: for programs that join it.
        dashboard: URL, which takes jobs.
        token: that both ask for.
    """

    address: str
    dashboard: str
    token: str

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a program that joins it."""
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, **LOOPBACK}

    def answers(self) -> bool:
        """Whether it takes jobs."""
        with contextlib.suppress(httpx.HTTPError):
            headers = {"Authorization": f"Bearer {self.token}"}
            return httpx.get(f"{self.dashboard}/api/jobs/", headers=headers, trust_env=False).is_success
        return False


LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else Ray takes another address than the one it is told


@contextlib.contextmanager
def ray_head(log: Path) -> Iterator[Head]:
    """Start a head on free ports, and end it; the test is skipped where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray, of the extra ray, is not installed")
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    head = Head(f"127.0.0.1:{ports['port']}", f"http://127.0.0.1:{ports['dashboard-port']}", secrets.token_hex(32))
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": head.token, **LOOPBACK}
    with tempfile.TemporaryDirectory(prefix="r") as short:  # a socket's path has at most 107 bytes
        start = [sys.executable, "-m", START, "start", "--head", "--block", f"--temp-dir={short}"]
        options = [f"--{name}={port}" for name, port in ports.items()]
        with running([*start, *OPTIONS, *options], os.environ | variables, log) as tree:
            tree.wait_until(head.answers)
            yield head
