"""Marloop past its queue's capacity, its cold start, and its memory over time."""

import statistics
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import numpy as np
import psutil

from loadtests import wrk
from loadtests.bench import environments
from loadtests.bench.tensors import marloop
from loadtests.bench.tensors.measurement import answers
from loadtests.bench.tensors.results import Extremes, Plan
from loadtests.bench.tensors.workloads import Exchange
from serving.hosts.torchserve.management import Management
from serving.ports import free_ports
from serving.processes import START_TIMEOUT, Tree, running
from serving.settings import ROOT, Settings

STEADY = 10  # good answers in a row that count as recovered
SAMPLE_EVERY = 1.0  # s between two samples of the memory
WARM = 0.2  # share of a soak that is ignored: caches fill


def measure(model: Path, exchange: Exchange, plan: Plan) -> Extremes:
    """Measure all three with one service.

    Args:
        model: folder made by ``marloop.unpack``.

    Raises:
        StartError: the service does not come up.
        WrkError: no load can be made.
    """
    with tempfile.TemporaryDirectory(prefix="mb-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (port,) = free_ports(1)
        settings = marloop.settings(port, marloop.repacked(model, "throughput", folder / "store"), folder / "run")
        # Elsewhere it would lie in the folder for temporary files, which is another one for the service.
        settings = msgspec.structs.replace(settings, management_socket=folder / "socket" / "management")
        environment = environments.quiet() | settings.to_environment()
        environment |= {"TMPDIR": name, "PYTHONPATH": str(ROOT)}
        with running(marloop.COMMAND, environment, folder / "log") as server:
            url = settings.inference_url
            server.wait_until(lambda: answers(url, exchange))
            cold_start = register_again(settings, exchange)
            script = folder / "load.lua"
            script.write_text(wrk.script(exchange.method, exchange.headers, exchange.bodies))
            refusals, body, recovery = flood(url, exchange, script, plan)
            refusal = statistics.median(refusals) if refusals else None
            growth, error = soak(url + exchange.path, script, server, plan) if plan.soak else (None, 0.0)
            worker = max(process.memory_info().rss for process in workers(server)) / 1e6
        marloop.forget(settings.run_dir)
        return Extremes(cold_start, refusal, body, recovery, worker, growth, error)


def register_again(settings: Settings, exchange: Exchange) -> float:
    """Remove the model from the running service and register it; return the seconds until it answers."""
    with httpx.Client(timeout=START_TIMEOUT, trust_env=False) as client:
        management = Management(settings.management_address, client)
        ((name, (version, *_)),) = management.versions().items()
        (archive,) = settings.model_store.glob("*.mar")
        management.unregister(name, version)
        started = time.monotonic()
        management.register(archive.name, name)
        while not answers(settings.inference_url, exchange):
            time.sleep(0.01)
        return time.monotonic() - started


def flood(url: str, exchange: Exchange, script: Path, plan: Plan) -> tuple[list[float], str, float]:
    """Load the service with more clients than fit the queue.

    Returns:
        Milliseconds of each 503 to a client of ours, the body of the last, and the recovery: seconds from the flood's
        end until ``STEADY`` requests in a row were answered.
    """
    refusals: list[float] = []
    bodies = [""]
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            started = time.monotonic()
            with suppress(httpx.HTTPError):  # the frontend closes the connection with a refusal
                response = httpx.post(
                    url + exchange.path,
                    headers=dict(exchange.headers),
                    content=exchange.bodies[0],
                    timeout=wrk.PATIENCE,
                    trust_env=False,
                )
                if response.status_code == 503:
                    refusals.append(1000 * (time.monotonic() - started))
                    bodies[0] = response.text

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wrk.run(url + exchange.path, script, plan.flood, plan.seconds)
    over.set()
    ended, row = time.monotonic(), 0
    while row < STEADY and time.monotonic() - ended < START_TIMEOUT:
        row = row + 1 if answers(url, exchange) else 0
    recovery = time.monotonic() - ended
    watcher.join(wrk.PATIENCE)
    return refusals, bodies[0], recovery


def soak(url: str, script: Path, server: Tree, plan: Plan) -> tuple[float, float]:
    """Load the service for long, and fit a line to the memory of the worker that grows most.

    Returns:
        The slope in MB a minute, and its standard error.
    """
    times: list[float] = []
    sizes: list[list[float]] = []
    over = threading.Event()
    processes = workers(server)

    def watch() -> None:
        started = time.monotonic()
        while not over.wait(SAMPLE_EVERY):
            sizes.append([process.memory_info().rss / 1e6 for process in processes])
            times.append((time.monotonic() - started) / 60)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wrk.run(url, script, plan.clients, plan.soak)
    over.set()
    watcher.join()
    first = int(WARM * len(times))
    return max(slope(times[first:], [size[i] for size in sizes[first:]]) for i in range(len(processes)))


def slope(times: list[float], sizes: list[float]) -> tuple[float, float]:
    """Return the slope of a straight line through points, and its standard error (ordinary least squares)."""
    (gradient, _), covariance = np.polyfit(times, sizes, 1, cov=True)
    return float(gradient), float(np.sqrt(covariance[0, 0]))


def workers(server: Tree) -> list[psutil.Process]:
    """Return TorchServe's workers."""
    return [process for process in server.processes() if "--sock-name" in process.cmdline()]
