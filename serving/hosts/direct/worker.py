"""``python -m serving.hosts.direct.worker``: a worker process, the application on uvicorn.

Every worker has a socket of its own on the same port (SO_REUSEPORT); the system shares connections out among them. A
worker that ends closes its socket first, so that no client waits in the queue of a worker that accepts no more. Each
also has a Unix socket, on which the watcher asks this worker alone.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, MutableMapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry

from handlers.observe.logs import configure
from handlers.observe.metrics_folder import VARIABLE
from serving import documents
from serving.hosts.direct import background
from serving.hosts.direct.app import Application
from serving.hosts.direct.board import BEAT, Board
from serving.hosts.direct.http.cors import allow_origins
from serving.hosts.direct.http.refusals import Refusals
from serving.hosts.direct.http.short_way import ShortProtocol, ShortWay
from serving.hosts.direct.http.timeouts import PatientProtocol
from serving.hosts.direct.metadata import Metadata
from serving.hosts.direct.models import Models
from serving.hosts.direct.routes import model_of
from serving.hosts.direct.streaming import Elsewhere, LanguageProcesses
from serving.hosts.direct.unpacked import Unpacked
from serving.hosts.worker_environment import worker_environment
from serving.processes import limit_files
from serving.registry import ArchiveError, Registry
from serving.security import exposure, house_key
from serving.security.gate import Gate
from serving.security.grants import Keys
from serving.security.keys import key_file
from serving.settings import Settings
from serving.store.opening import open_copy
from serving.traces.setup import Traces, start_traces

logger = logging.getLogger(__name__)
GRACE = 8  # s for the requests accepted before the end; less than the supervisor's grace
IDLE = 75  # s that a connection may stay without a request
AGAIN = 5.0  # s until a model that differs from the registry is tried again
MOST_FILES = 16384  # a connection takes one


def create(
    settings: Settings, workers: int, only: str, traces: Traces | None = None
) -> tuple[Any, Refusals, ShortWay | None]:
    """Make the ASGI application of a worker, what counts the requests that it refuses, and the way of plain ones.

    Args:
        workers: number that there should be.
        only: the language model that it is for; empty for all others.
        traces: makes the spans of requests; None for none.
    """
    registry, board = open_copy(settings), background.board(settings)
    observers = [traces.observer()] if traces else []
    models = Models(registry, Unpacked(settings.temporary / "archives"), only, observers)
    processes: dict[str, Elsewhere] = {}
    refusals = Refusals(models, CollectorRegistry())

    def elsewhere(name: str) -> Elsewhere:
        if name not in processes:
            socket_path = background.socket_path(settings, background.language_part(name))
            processes[name] = Elsewhere(str(socket_path), partial(refusals.count, name=name))
        return processes[name]

    health = partial(board.faults, workers)
    served: Callable[[], AbstractAsyncContextManager[None]] = partial(
        serving, models, registry, board, only, partial(background.start_language, settings)
    )
    house_key.make(settings.board)
    keys = Keys(key_file(settings), settings.board, workers, always=exposure.needs_keys(settings))
    if settings.grpc and not only:
        from serving.hosts.direct.grpc.service import InferenceService, beside_http  # grpcio is an extra
        from serving.security.grpc_gate import KeyInterceptor

        service = InferenceService(models, health, refusals.count)
        interceptors = [*([traces.interceptor(models)] if traces else []), KeyInterceptor(keys, refusals.count)]
        served = partial(beside_http, served, service, settings.bind_address, settings.grpc_port, interceptors)
    metadata = Metadata(models, health, board.language)
    application = Application(models, metadata, served, only, elsewhere, refusals.count)
    if only:  # its socket is ours alone, and whoever passes a request on has made its span
        return application, refusals, None
    gate = Gate(application, keys, model_of, refused=refusals.count)
    outermost = allow_origins(traces.around(gate, models) if traces else gate, settings.cors_origins)
    way = ShortWay(models, gate, application.identifiers, refusals.count) if outermost is gate else None
    return outermost, refusals, way


def main() -> None:
    """Serve until SIGTERM, then answer the accepted requests, and end with 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="of the supervisor's part")
    parser.add_argument("--workers", type=int, required=True, help="how many there should be")
    parser.add_argument("--only", default="", help="the language model that it is for")
    parser.add_argument("--run-dir", required=True, help="folder of the run, by which its processes are found")
    arguments = parser.parse_args()
    configure()
    limit_files(MOST_FILES)
    traces = start_traces(os.environ)  # before what the collector may ask for is dropped
    settings = Settings.from_environment({**os.environ, "MARLOOP_RUN_DIR": arguments.run_dir})
    drop_secrets(os.environ)
    application, refusals, ShortProtocol.way = create(settings, arguments.workers, arguments.only, traces)
    ShortProtocol.refused = staticmethod(refusals.count)
    config = uvicorn.Config(
        application,
        http=ShortProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
    )
    # uvicorn raises the signal again after its last answer; ending on a signal is no failure here.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(config)
    own = background.socket_path(settings, arguments.name)
    public = [] if arguments.only else [listener(settings.bind_address, settings.inference_port)]
    server.run([*public, private_listener(own)])
    if traces:
        traces.stop()
    if not server.started:
        raise SystemExit(1)


def drop_secrets(environ: MutableMapping[str, str]) -> None:
    """Remove from an environment what a worker does not need; its token is then the one that may send events alone."""
    variables = worker_environment(environ)
    if VARIABLE in environ:
        variables[VARIABLE] = environ[VARIABLE]
    for name in environ.keys() - variables.keys():
        del environ[name]
    environ.update(variables)


def listener(address: str, port: int) -> socket.socket:
    """Return a socket bound to a port that it shares with other workers; it accepts only once it listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    return sock


def private_listener(path: Path) -> socket.socket:
    """Return a bound Unix socket, in place of one that a former worker may have left."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    return sock


@contextlib.asynccontextmanager
async def serving(
    models: Models, registry: Registry, board: Board, only: str, start: Callable[[Collection[str]], None]
) -> AsyncIterator[None]:
    """Serve within the block: every model has answered its example before, and changes of the registry are followed.

    Args:
        start: starts the processes of language models that have none.
    """
    state = (documents.stamp(registry.path), board.beside())
    await models.converge(state[1])
    report_state(board, models, only)
    language = LanguageProcesses(board, models.table.elsewhere, start)
    watching = asyncio.create_task(watch(models, registry, board, state, only, language))
    try:
        yield
    finally:
        watching.cancel()
        board.leave()
        models.close()


async def watch(
    models: Models, registry: Registry, board: Board, state: object, only: str, language: LanguageProcesses
) -> None:
    """Keep the models as the registry says, and report that this worker lives.

    Args:
        state: stamp of the registry, and versions beside, from which the models were made.
    """
    while True:
        await asyncio.sleep(BEAT)
        report_state(board, models, only, language.loading(models.table.elsewhere))
        await language.follow(models.table.elsewhere)
        PatientProtocol.draining = not only and board.draining()  # a language model has no client but this host
        beside = board.beside()
        now = (documents.stamp(registry.path), beside)
        late = time.monotonic() > models.table.looked + AGAIN
        if now == state and not (models.table.faults and late):
            continue
        try:
            await models.converge(beside)
            state = now
        except ArchiveError as error:
            logger.error("what is served stays: %s", error)


def report_state(board: Board, models: Models, only: str, loading: tuple[str, ...] = ()) -> None:
    """Write the state of this worker."""
    table = models.table
    served = {name: sorted(versions) for name, versions in table.models.items()}
    elsewhere = (*table.elsewhere,)
    board.beat(
        served, table.defaults, table.faults, looked=table.looked, only=only, elsewhere=elsewhere, loading=loading
    )


if __name__ == "__main__":
    main()
