"""One stack for the session, built from this repository and taken down with all that it made."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from serving.ports import free_ports
from serving.settings import ROOT
from tests.compose.docker import LONGEST_BUILD, Docker, NoDockerError, find_docker
from tests.compose.stack import SERVICES, Stack

LONGEST_START = 600  # s; training included
STAND_INS = ("database", "prometheus", "alertmanager")
SETTINGS = (
    "MARLOOP_",
    "GRAFANA_",
    "POSTGRES_",
    "CAPTURE_",
    "BIND_ADDRESS",
    "MODEL",
    "PROFILE",
    "LOAD_",
    "PROMETHEUS_",
    "ALERTMANAGER_",
    "PYTHON_IMAGE",
    "TRAIN_",
    "TORCHSERVE_",
    "SECRETS_",
    "OTEL_",
    "EXTRAS",
)
SECRETS = {"GRAFANA_PASSWORD": "of-grafana", "POSTGRES_PASSWORD": "of-the-database", "MARLOOP_TOKEN": "of-the-monitor"}

LOOP = {  # a retraining from 250 labelled rows, 200 of them held out, as many as a judge needs
    "MARLOOP_CAPTURE_ROWS_PER_SECOND": "100000",
    "MARLOOP_LIVE_INTERVAL": "1",
    "MARLOOP_RETRAIN_ROWS": "250",
    "MARLOOP_RETRAIN_MOST_ROWS": "250",
    "MARLOOP_RETRAIN_HOLDOUT": "0.8",
    "MARLOOP_JUDGE_LATENCY": "10",  # a busy machine is not what is looked at
    "MARLOOP_WATCH_HOURS": "0",
}

TRACES = {"OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "compose-test"}  # into the container's log


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Docker:
    """A docker with Compose, in this repository, with none of the user's settings of the stack."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    folder = str(tmp_path_factory.mktemp("compose") / "secrets")
    environ |= {"COMPOSE_ENV_FILES": os.devnull, "SECRETS_DIR": folder}
    script = ROOT / "deploy" / "make-secrets.sh"
    subprocess.run(["sh", str(script)], env=environ | SECRETS, stdout=subprocess.DEVNULL, check=True)
    try:
        return find_docker(environ)
    except NoDockerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def stack(docker: Docker) -> Iterator[Stack]:
    """The services, healthy."""
    with running(docker, "torchserve") as stack:
        yield stack


@pytest.fixture(scope="session")
def direct_stack(docker: Docker) -> Iterator[Stack]:
    """The services with the direct host, healthy."""
    with running(docker, "direct") as stack:
        yield stack


@contextlib.contextmanager
def running(docker: Docker, host: str) -> Iterator[Stack]:
    """Build the images, bring the services up, and take down whatever was made; skip where that cannot be done."""
    inference, monitor = free_ports(2)
    environ = {
        **docker.environ,
        "MARLOOP_IMAGE": "marloop:compose-test",
        "MARLOOP_HOST": host,
        "EXTRAS": "otel",
        "MARLOOP_INFERENCE_PORT": str(inference),
        "MARLOOP_MONITOR_PORT": str(monitor),
        **LOOP,
    }
    environ |= TRACES if host == "direct" else {}
    project = f"marloop-{host}-test-{os.getpid()}"
    urls = [f"http://127.0.0.1:{port}" for port in (inference, monitor)]
    stack = Stack(Docker(docker.program, environ), project, *urls)
    try:
        _have_images(stack)
    except NoDockerError as error:
        pytest.skip(str(error))
    with contextlib.ExitStack() as undo:
        undo.callback(stack.compose, "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "10")
        _start(stack)
        yield stack


def configuration(docker: Docker, **variables: str) -> dict[str, Any]:
    """What Compose understands of the file, every profile included."""
    with_variables = Docker(docker.program, {**docker.environ, **variables})
    found: dict[str, Any] = json.loads(with_variables.check("compose", "--profile", "*", "config", "--format", "json"))
    return found


def _have_images(stack: Stack) -> None:
    stack.docker.require_engine()
    services = configuration(stack.docker)["services"]
    images = {name: services[name]["image"] for name in STAND_INS}
    docker = stack.docker
    stand_ins = [name for name, image in images.items() if docker.is_stand_in(image) or not docker.has_image(image)]
    bases = [services["torchserve"]["build"]["args"]["PYTHON_IMAGE"], *(["debian:bookworm-slim"] if stand_ins else [])]
    for base in bases:
        if not stack.docker.has_image(base):
            raise NoDockerError(f"the base image {base} is not here and cannot be pulled")
    if stand_ins:
        files = ("-f", "docker-compose.yml", "-f", "tests/compose/stand-ins.yml")
        stack.compose(*files, "build", *stand_ins, timeout=LONGEST_BUILD)
    stack.compose("build", "train", "torchserve", timeout=LONGEST_BUILD)


def _start(stack: Stack) -> None:
    started = stack.docker.run(
        *("compose", "-p", stack.project, "up", "--detach", "--wait", "--wait-timeout", str(LONGEST_START), *SERVICES),
        timeout=LONGEST_START + 60,
    )
    if started.returncode:
        logs = stack.compose("logs", "--tail", "30")
        pytest.fail(f"the stack did not become healthy:\n{started.stderr[-4000:]}\n{logs}")
