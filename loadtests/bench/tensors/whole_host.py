"""The direct host with every champion of a model store: its cold start, and its memory."""

import statistics
import tempfile
import time
from pathlib import Path

from loadtests.bench import environments
from loadtests.bench.tensors import marloop
from loadtests.bench.tensors.results import WholeHost
from serving.ports import free_ports
from serving.processes import running
from serving.readiness import ask_all
from serving.registry import Registry
from serving.security import house_key
from serving.settings import ROOT

STARTS = 3


def measure(store: Path, starts: int = STARTS) -> WholeHost:
    """Start the host a few times, and return medians.

    Raises:
        StartError: the host does not come up.
    """
    registry = Registry(store)
    seconds, sizes = zip(*(_start(registry) for _ in range(starts)), strict=True)
    return WholeHost(len(registry.champions()), statistics.median(seconds), statistics.median(sizes))


def _start(registry: Registry) -> tuple[float, float]:
    """Return the seconds from the command until every model has answered its example, and the MB of all processes."""
    with tempfile.TemporaryDirectory(prefix="mb-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        settings = marloop.settings(free_ports(1)[0], registry.store, folder / "run", "direct")
        environment = environments.quiet() | settings.to_environment() | {"TMPDIR": name, "PYTHONPATH": str(ROOT)}
        auth = house_key.of(settings)
        started = time.monotonic()
        with running(marloop.SUPERVISE, environment, folder / "log") as host:
            host.wait_until(lambda: all(model.ready for model in ask_all(registry, settings.inference_url, auth)))
            taken, size = time.monotonic() - started, host.memory()
        marloop.forget(settings.run_dir)
        return taken, size
