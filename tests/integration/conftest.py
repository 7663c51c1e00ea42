"""A real service for the session on each host, on free ports, with three models; another chats as well."""

import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from msgspec.structs import replace

from handlers.contract import ModelContract
from loadtests.bench.tensors import marloop
from monitoring.retraining.launch.trainings import JobTrainings
from serving.hosts.chosen import chosen
from serving.hosts.direct.background import find_workers
from serving.hosts.ray import background as ray_background
from serving.hosts.torchserve import background
from serving.ports import free_ports
from serving.processes import tail
from serving.registry import Registry
from serving.settings import HostName, Settings
from serving.supervision.companion import monitor
from tests.support.chat_archive import register_echo
from tests.support.training.trainings import Trainings
from training import recipes

logger = logging.getLogger(__name__)
MODELS = ("linear", "flights", "fashion")
ROWS_PER_SECOND = "MARLOOP_CAPTURE_ROWS_PER_SECOND"
RAY = pytest.param("ray", marks=pytest.mark.ray)  # a cluster of its own: `make ray-test`
ONE_REPLICA = {"MARLOOP_RAY_REPLICAS": "1"}
LOGS = ("supervisor", "watcher", "torchserve", *ray_background.PARTS)
CHAT = "chat"  # a language model that says again what it was told


@dataclass(frozen=True)
class Server:
    """A running host and how to ask it."""

    settings: Settings
    client: httpx.Client

    @property
    def url(self) -> str:
        return self.settings.inference_url

    def contract(self, name: str) -> ModelContract:
        return Registry(self.settings.model_store).champion_contract(name)

    def worker_pids(self) -> set[int]:
        if self.settings.host == "direct":
            return {worker.pid for worker in find_workers(self.settings)}
        if self.settings.host == "ray":
            return {replica.pid for replica in ray_background.replicas(self.settings)}
        process = background.find(self.settings)
        assert process is not None
        return {child.pid for child in process.children(recursive=True)}


def settings_for(
    store: Path, run_dir: Path, bind_address: str = "127.0.0.1", host: HostName = "torchserve"
) -> Settings:
    """Settings on free ports."""
    return replace(marloop.settings(free_ports(1)[0], store, run_dir), bind_address=bind_address, host=host)


def put(store: Path, *models: str) -> Path:
    """Put trained models into a store of the test's own, each as the first version."""
    trained = Trainings(store)
    for model in models:
        trained(recipes.find(model))
    return store


@contextlib.contextmanager
def serve(settings: Settings) -> Iterator[Server]:
    """Start the host and what runs beside it, and stop them whatever happens."""
    host = chosen(settings)
    parts = host.companions(settings)
    try:
        host.start(settings)
        for part in parts:
            part.start(settings)
        with httpx.Client(timeout=30) as client:
            yield Server(settings, client)
    finally:
        for log in LOGS:  # shown where a test fails: why its process ended
            logger.warning("the end of %s.log:\n%s", log, tail(settings.run_dir / f"{log}.log", 30))
        for part in parts:
            part.stop(settings)
        host.stop(settings)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell that starts pytest in the background makes it, and what it starts, deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with linear, flights and fashion."""
    return put(tmp_path_factory.mktemp("models") / "store", *MODELS)


@contextlib.contextmanager
def unharmed(store: Path, host: HostName) -> Iterator[Server]:
    """A host with the three models, none of whose workers may be killed or restarted by the input of any test."""
    with tempfile.TemporaryDirectory() as run_dir, serve(settings_for(store, Path(run_dir), host=host)) as running:
        pids = running.worker_pids()
        yield running
        assert running.worker_pids() == pids


@pytest.fixture(scope="session")
def torchserve(store: Path) -> Iterator[Server]:
    """TorchServe with the three models."""
    with unharmed(store, "torchserve") as running:
        yield running


@pytest.fixture(scope="session")
def direct(store: Path) -> Iterator[Server]:
    """The direct host with the three models."""
    with unharmed(store, "direct") as running:
        yield running


@pytest.fixture(scope="session")
def ray(store: Path) -> Iterator[Server]:
    """The Ray host with the three models, one replica each."""
    needs_ray()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in ONE_REPLICA.items():
            environment.setenv(name, value)
        with unharmed(store, "ray") as running:
            yield running


def needs_ray() -> None:
    """Skip where the extra is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray, of the extra ray, is not installed")


@pytest.fixture(scope="session", params=["torchserve", "direct", RAY])
def either(request: pytest.FixtureRequest) -> Server:
    """Each host with the three models: for what is promised on all of them."""
    running: Server = request.getfixturevalue(request.param)
    return running


@pytest.fixture(scope="module")
def server(torchserve: Server) -> Server:
    """What the tests of a module ask, unless it says otherwise: TorchServe with the three models."""
    return torchserve


@contextlib.contextmanager
def with_echo(store: Path, folder: Path, host: HostName) -> Iterator[Server]:
    """A host with the models of a store and the echo."""
    shutil.copytree(store, folder)
    register_echo(folder, CHAT, slots=4, room=8, seconds=0.002)
    with tempfile.TemporaryDirectory() as run_dir, serve(settings_for(folder, Path(run_dir), host=host)) as running:
        yield running


@pytest.fixture(scope="session")
def chatting(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """TorchServe with these models and the echo."""
    with with_echo(store, tmp_path_factory.mktemp("chatting") / "store", "torchserve") as running:
        yield running


@pytest.fixture(scope="module")
def chatting_ray(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The Ray host with these models and the echo, one replica each, and with what its monitor needs."""
    needs_ray()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in ONE_REPLICA.items():
            environment.setenv(name, value)
        with with_echo(store, tmp_path_factory.mktemp("chatting") / "store", "ray") as running:
            yield running


@contextlib.contextmanager
def monitored(store: Path, runs: Path, variables: Mapping[str, str], host: HostName = "torchserve") -> Iterator[Server]:
    """A host that captures, and its monitor, with nothing of this environment but what is given.

    Args:
        store: of the models.
        runs: folder of the retrainings' checkpoints.
        variables: of the environment of both.
        host: which.
    """
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("CAPTURE_URL", "DATABASE_URL", "MARLOOP_TOKEN", "MARLOOP_CAPTURE_SAMPLE", ROWS_PER_SECOND):
            environment.delenv(name, raising=False)
        for name, value in (ONE_REPLICA | dict(variables) | {"MARLOOP_RUNS": str(runs)}).items():
            environment.setenv(name, value)
        settings = settings_for(store, Path(stack.enter_context(tempfile.TemporaryDirectory())), host=host)
        server = stack.enter_context(serve(settings))
        stack.callback(JobTrainings(settings).end_all)
        stack.callback(monitor(settings).stop, settings)
        monitor(settings).start(settings)
        yield server


def listening(settings: Settings) -> set[tuple[str, int]]:
    """Addresses that the frontend listens on."""
    process = background.find(settings)
    assert process is not None
    return {(c.laddr.ip, c.laddr.port) for c in process.net_connections() if c.status == psutil.CONN_LISTEN}


def environment(settings: Settings) -> dict[str, str]:
    """The environment for a command of ours with these settings."""
    return os.environ | settings.to_environment()
