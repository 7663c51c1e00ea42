"""What every host does before it starts and until it answers."""

import os
import time
from collections.abc import Callable, Collection

from handlers.observe.metrics_folder import VARIABLE
from handlers.observe.settings import CAPTURE_URL
from serving.hosts.host import LaunchError
from serving.readiness import Readiness, ask_all
from serving.registry import ArchiveError, Registry
from serving.security.folders import make_private
from serving.settings import Settings

START_TIMEOUT = 120.0  # s


def verified(registry: Registry) -> tuple[list[str], dict[str, str]]:
    """Return the archives of the champions whose SHA-256 is right, and why others are refused, by model.

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


def capturing(settings: Settings) -> dict[str, str]:
    """Return the variable by which workers know where to send what they predicted."""
    return {CAPTURE_URL: os.environ.get(CAPTURE_URL) or f"{settings.monitor_url}/events"}


def measuring(settings: Settings) -> dict[str, str]:
    """Return the variable by which workers know where to write what they measure, if they do."""
    return {VARIABLE: str(settings.metrics)} if settings.telemetry else {}


def empty_metrics(settings: Settings) -> None:
    """Make the folder of the metrics, without the values of workers of an earlier run. It may be a mount.

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
    """Wait until every champion answers its example; returns what they answer then.

    Args:
        refused: models that are not waited for.
        check: raises where it is in vain to wait, told what is waited for.
        poll: s between two looks.
    """
    registry = Registry(settings.model_store)
    while True:
        found = ask_all(registry, settings.inference_url)
        if all(one.ready or one.name in refused for one in found):
            return ask_all(registry, settings.inference_url)  # the first answers waited for the models to load
        check("; ".join(f"{one.name}: {one.detail}" for one in found if not one.ready))
        time.sleep(poll)
