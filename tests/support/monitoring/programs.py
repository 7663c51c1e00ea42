"""The programs of Prometheus and Alertmanager, where they are installed."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.support.waiting import wait_until

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}


def need(name: str, *others: str) -> str:
    """The path of the program that is called by one of these names; else the test is skipped."""
    found = next((path for called in (name, *others) if (path := shutil.which(called))), None)
    if found is None:
        pytest.skip(f"{name} is not installed: Debian's package {PACKAGES[name]} has it")
    return found


def run(*command: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def prometheus(config: Path, port: int) -> Iterator[httpx.Client]:
    """A client of a real Prometheus on a port of this machine; its data lies beside its configuration."""
    data = f"--storage.tsdb.path={config.parent / 'data'}"
    with _started([need("prometheus"), f"--config.file={config}", data], config.parent, port) as client:
        yield client


@contextlib.contextmanager
def alertmanager(config: Path, port: int) -> Iterator[httpx.Client]:
    """A client of a real Alertmanager on a port of this machine; its data lies beside its configuration."""
    command = [need("prometheus-alertmanager", "alertmanager"), f"--config.file={config}"]
    options = [f"--storage.path={config.parent / 'data'}", "--cluster.listen-address="]
    with _started([*command, *options], config.parent, port) as client:
        yield client


@contextlib.contextmanager
def _started(command: Sequence[str], folder: Path, port: int) -> Iterator[httpx.Client]:
    listen = f"--web.listen-address=127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, listen], stdout=log, stderr=log, cwd=folder)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            wait_until(lambda: _ready(client))
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
