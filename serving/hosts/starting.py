"""Steps of every host's start, until it answers."""

import os
import socket
import time
from collections.abc import Callable, Collection
from functools import partial

from handlers.observe.metrics_folder import VARIABLE
from handlers.observe.settings import CAPTURE_URL
from serving.hosts.host import LaunchError
from serving.readiness import Readiness, ask_all
from serving.registry import ArchiveError, Registry
from serving.security import house_key
from serving.security.folders import make_private
from serving.settings import Settings
from serving.store.opening import open_copy

START_TIMEOUT = 120.0  # s


def check_port(address: str, port: int, variable: str) -> None:
    """Check that a port can be listened on.

    Args:
        variable: the setting that gives another one.

    Raises:
        LaunchError: it cannot.
    """
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            raise LaunchError(f"cannot listen on {address}:{port}: {error.strerror}; set {variable}") from error


def verified(registry: Registry) -> tuple[list[str], dict[str, str]]:
    """Return the champions' archives whose SHA-256 is right, and the reasons why others are refused, by model.

    Raises:
        LaunchError: there is none.
    """
    archives: list[str] = []
    refused = {name: fault for name, (_, fault) in registry.unknown().items()}
    for name, (_, version) in registry.champions().items():
        try:
            archives.append(registry.verify(version).name)
        except ArchiveError as error:
            refused[name] = str(error)
    if not archives:
        reasons = "; ".join(refused.values()) or f"{registry.store} holds no champion: run `make train MODEL=linear`"
        raise LaunchError(f"there is nothing to serve: {reasons}")
    return archives, refused


def capturing(settings: Settings, machine: str = "") -> dict[str, str]:
    """Return the variable with the URL to which workers send their predictions.

    Args:
        machine: on which the monitor runs; empty for this one.
    """
    monitor = f"http://{machine}:{settings.monitor_port}" if machine else settings.monitor_url
    return {CAPTURE_URL: os.environ.get(CAPTURE_URL) or f"{monitor}/events"}


def measuring(settings: Settings) -> dict[str, str]:
    """Return the variable with the folder for the workers' metrics; empty where they measure nothing."""
    return {VARIABLE: str(settings.metrics)} if settings.telemetry else {}


def empty_metrics(settings: Settings) -> None:
    """Make the folder of the metrics, which may be a mount, and remove the values of an earlier run's workers.

    Raises:
        FolderError: it is not ours alone.
        OSError: it cannot be made.
    """
    if settings.metrics_dir is None:
        make_private(settings.metrics)
    settings.metrics.mkdir(parents=True, exist_ok=True)
    for file in (*settings.metrics.glob("*.db"), *settings.metrics.glob("*.lock")):
        file.unlink(missing_ok=True)


def wait_until_ready(
    settings: Settings, refused: Collection[str], check: Callable[[str], None], poll: float
) -> list[Readiness]:
    """Wait until every champion answers its example, and return their readiness.

    Args:
        refused: models that will not answer.
        check: raises where waiting is in vain; its argument names the missing answers.
        poll: s between two looks.
    """
    ask = partial(ask_all, open_copy(settings), settings.inference_url, house_key.of(settings))
    while True:
        models = ask()
        if all(model.ready or model.name in refused for model in models):
            return ask()  # the first answers waited for the models to load
        check("; ".join(f"{model.name}: {model.detail}" for model in models if not model.ready))
        time.sleep(poll)
