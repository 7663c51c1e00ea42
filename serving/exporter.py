"""The workers' metrics over HTTP: the merge of the files that they write, for Prometheus.

Its own small process, so that a scrape never waits for a worker, nor a worker for a scrape.
"""

import fcntl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

ATTEMPTS = 3  # at reading while TorchServe starts and wipes the folder
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WorkerMetrics(Collector):
    """Merges the files of all workers. Counters of those that died stay, so that no sum goes back; gauges go.

    Args:
        directory: where workers write, ``PROMETHEUS_MULTIPROC_DIR``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the models."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every worker's metrics; none where no TorchServe has started yet."""
        remove_dead(self._directory)
        yield from _read(self._directory, ATTEMPTS)


def remove_dead(directory: Path) -> None:
    """Remove the gauges of workers that ended: those whose lock nobody holds."""
    for lock in directory.glob("*.lock"):
        if _is_free(lock):
            mark_process_dead(int(lock.stem), str(directory))
            lock.unlink(missing_ok=True)


def server(directory: Path, address: str, port: int) -> WSGIServer:
    """An HTTP server for ``/metrics`` and ``/healthz``; its ``serve_forever`` runs it.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(directory))
    return make_server(address, port, application(registry), ThreadingWSGIServer, QuietHandler)


def application(registry: CollectorRegistry) -> Application:
    """The WSGI application of a registry."""
    metrics: Application = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        found = path == "/healthz"
        start_response("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
        return [b"ok\n" if found else b"try /metrics\n"]

    return answer


class QuietHandler(WSGIRequestHandler):
    """Without a line a request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _read(directory: Path, attempts: int) -> Iterable[Metric]:
    if not directory.is_dir():
        return []
    try:
        metrics: Iterable[Metric] = MultiProcessCollector(None, str(directory)).collect()
    except FileNotFoundError:  # wiped since it was listed
        if attempts == 1:
            raise
        return _read(directory, attempts - 1)
    return metrics


def _is_free(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # another scrape was faster
        return False
    return True
