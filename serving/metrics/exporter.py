"""The workers' metrics over HTTP: the merge of the files that they write, for Prometheus.

Its own small process, so that a scrape never waits for a worker, nor a worker for a scrape.
"""

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from handlers.observe.metrics_folder import check_values
from serving.metrics.metric_files import add_up_dead

ATTEMPTS = 3  # at reading while TorchServe starts and wipes the folder
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_NAME = re.compile(r"(?:counter|histogram|gauge_[a-z]+)_(?P<pid>\d+)\.db")
_LOCK = re.compile(r"(?P<pid>\d+)\.lock")
_METRIC, _LABEL = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*"), re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_STATE = {
    "marloop_metrics_folder_usable": "Whether the folder of the workers' metrics can be written to",
    "marloop_damaged_metrics_files": "Files in it that cannot be read and are left out",
    "marloop_workers_without_metrics": "Workers that live and found no room for theirs",
}


class WorkerMetrics(Collector):
    """Merges the files of all workers. Counts of dead workers stay, added up, so that no sum goes back; gauges go.

    Args:
        directory: the workers' ``PROMETHEUS_MULTIPROC_DIR``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._turn = threading.Lock()  # nobody reads while files are added up

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, since they depend on the models."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every worker's metrics, and gauges of how complete they are."""
        with self._turn:
            remove_dead(self._directory)
            add_up_dead(self._directory)
            metrics, damaged = _merge(self._directory, ATTEMPTS)
        yield from metrics
        lost = len(without_metrics(self._directory))
        counts = dict(zip(_STATE, (is_usable(self._directory), len(damaged), lost), strict=True))
        for name, text in _STATE.items():
            yield GaugeMetricFamily(name, text, float(counts[name]))

    def complaints(self) -> list[str]:
        """Return the faults, a sentence each."""
        usable = is_usable(self._directory)
        with self._turn:
            damaged = _merge(self._directory, ATTEMPTS)[1]
        return [
            *([] if usable else [f"{self._directory} cannot be written to, or is full"]),
            *(f"{self._directory / name} is left out: {reason}" for name, reason in damaged.items()),
            *(f"worker {pid} serves without metrics" for pid in without_metrics(self._directory)),
        ]


def remove_dead(directory: Path) -> None:
    """Remove the gauges of workers that ended: those whose lock nobody holds."""
    for pid, lock in _locks(directory):
        if _is_free(lock):
            try:
                mark_process_dead(pid, str(directory))
                lock.unlink(missing_ok=True)
            except OSError:  # the folder is read-only, or the lock is no file
                continue


def without_metrics(directory: Path) -> list[int]:
    """Return the process ids of living workers without a file of metrics."""
    having = {int(name["pid"]) for path in _listed(directory) if (name := _NAME.fullmatch(path.name))}
    return sorted(pid for pid, lock in _locks(directory) if pid not in having and not _is_free(lock))


def is_usable(directory: Path) -> bool:
    """Tell whether a new worker can write to the folder, which has a page of room."""
    try:
        free = os.statvfs(directory)
    except OSError:
        return False
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK) and free.f_bavail > 0


def server(directory: Path, address: str, port: int) -> WSGIServer:
    """Return an HTTP server for ``/metrics``, ``/healthz`` and ``/livez``; its ``serve_forever`` runs it.

    Raises:
        OSError: the port is taken.
    """
    collector = WorkerMetrics(directory)
    registry = CollectorRegistry()
    registry.register(collector)
    app = application(registry, collector.complaints)
    return make_server(address, port, app, ThreadingWSGIServer, QuietHandler)


def application(registry: CollectorRegistry, complaints: Callable[[], list[str]]) -> Application:
    """Return a WSGI application.

    Args:
        registry: shown at ``/metrics``.
        complaints: shown at ``/healthz`` after ok: this process is well, and a new start of it would mend nothing.
            ``/livez``, which the watcher asks each second, is without: to find them all files are read.
    """
    metrics: Application = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        known = path in ("/healthz", "/livez")
        start_response("200 OK" if known else "404 Not Found", [("Content-Type", "text/plain")])
        lines = ["ok", *(complaints() if path == "/healthz" else [])] if known else ["try /metrics"]
        return ["".join(f"{line}\n" for line in lines).encode()]

    return answer


class QuietHandler(WSGIRequestHandler):
    """A request handler that logs no requests."""

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def _merge(directory: Path, attempts: int) -> tuple[list[Metric], dict[str, str]]:
    """Merge the files that are whole; return also the names of the others, with the reasons."""
    whole, damaged = _sorted_out(_listed(directory), _check)
    try:
        try:
            return _shown(whole), damaged
        except FileNotFoundError:
            raise
        except Exception:  # its keys show that one is damaged, and only file by file it can be told which
            whole, further = _sorted_out(whole, lambda path: _shown([path]))
            return _shown(whole), damaged | further
    except FileNotFoundError:  # wiped since it was listed
        if attempts == 1:
            raise
        return _merge(directory, attempts - 1)


def _sorted_out(paths: Iterable[Path], check: Callable[[Path], object]) -> tuple[list[Path], dict[str, str]]:
    """Return the files that a check finds whole, and the names of the others, with the reasons."""
    whole, damaged = [], {}
    for path in paths:
        try:
            check(path)
        except FileNotFoundError:  # its worker has just ended
            continue
        except Exception as error:  # the reader raises any error on damaged bytes
            damaged[path.name] = f"{type(error).__name__}: {error}"
        else:
            whole.append(path)
    return whole, damaged


def _check(path: Path) -> None:
    """Raise an error of any kind unless the bytes of a file are in order."""
    if not _NAME.fullmatch(path.name):
        raise ValueError("no worker names a file so")
    if not path.is_file():
        if os.path.lexists(path):
            raise ValueError("it is no file")
        raise FileNotFoundError(path)
    check_values(path)


def _shown(paths: Iterable[Path]) -> list[Metric]:
    """Merge files; raise an error of any kind unless Prometheus can read all that their keys name."""
    metrics = list(MultiProcessCollector.merge([str(path) for path in paths]))
    for metric in metrics:
        for sample in metric.samples:
            labelled = all(_LABEL.fullmatch(key) and isinstance(value, str) for key, value in sample.labels.items())
            if not (labelled and _METRIC.fullmatch(sample.name) and isinstance(metric.documentation, str)):
                raise ValueError(f"it names a metric {sample.name!r}")
    return metrics


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".db")
    except OSError:  # it is missing, no folder, or not readable
        return []


def _locks(directory: Path) -> list[tuple[int, Path]]:
    named = ((_LOCK.fullmatch(path.name), path) for path in directory.glob("*.lock"))
    return [(int(name["pid"]), path) for name, path in named if name and path.is_file()]


def _is_free(lock: Path) -> bool:
    try:
        with lock.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is held, or another scrape was faster, or it is no file
        return False
    return True
