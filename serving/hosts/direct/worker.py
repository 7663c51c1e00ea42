"""``python -m serving.hosts.direct.worker``: a worker process, the application on uvicorn.

Every worker has a socket of its own on the same port (SO_REUSEPORT), among which the system shares connections out. One
that ends closes its own first, so that nobody waits in the queue of a worker that takes no more.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import uvicorn

from handlers.observe.logs import configure
from serving.hosts.direct.app import Application
from serving.hosts.direct.board import BEAT, Board
from serving.hosts.direct.models import Models
from serving.hosts.direct.unpacked import Unpacked
from serving.registry import ArchiveError, Registry
from serving.settings import Settings

logger = logging.getLogger(__name__)
GRACE = 20  # s that requests may take which were taken before the end
IDLE = 75  # s that a connection may stay without a request
WORKERS = "MARLOOP_DIRECT_WORKERS"


def create(settings: Settings) -> Application:
    """Make the application of a worker."""
    registry, board = Registry(settings.model_store), Board(settings.run_dir / "direct")
    models = Models(registry, Unpacked(settings.temporary / "archives"))
    count = int(os.environ[WORKERS])
    return Application(models, lambda: board.faults(count), partial(serving, models, registry, board))


def main() -> None:
    """Serve until SIGTERM, then answer what was taken, and end with 0."""
    configure()
    settings = Settings.from_environment(os.environ)
    config = uvicorn.Config(
        create(settings),
        http="httptools",
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
    # uvicorn raises the signal again when it has answered all: it is no failure to end when asked.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(config)
    server.run([listener(settings.bind_address, settings.inference_port)])
    if not server.started:
        raise SystemExit(1)


def listener(address: str, port: int) -> socket.socket:
    """Return a bound socket of a port that others may have sockets on; it accepts when it listens, not before."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    return sock


@contextlib.asynccontextmanager
async def serving(models: Models, registry: Registry, board: Board) -> AsyncIterator[None]:
    """Serve: every model answers its example before the block is entered; whatever changes is followed in it."""
    state = (_stamp(registry.path), board.beside())
    await models.converge(state[1])
    tell(board, models)
    watching = asyncio.create_task(watch(models, registry, board, state))
    try:
        yield
    finally:
        watching.cancel()
        board.leave()
        models.close()


async def watch(models: Models, registry: Registry, board: Board, state: object) -> None:
    """Keep the models as the registry says, and say that this worker lives.

    Args:
        state: of what the models were made from.
    """
    while True:
        await asyncio.sleep(BEAT)
        tell(board, models)
        beside = board.beside()
        now = (_stamp(registry.path), beside)
        if now == state:
            continue
        try:
            await models.converge(beside)
            state = now
        except ArchiveError as error:
            logger.error("what is served stays: %s", error)


def tell(board: Board, models: Models) -> None:
    """Write what this worker serves."""
    table = models.table
    board.beat({name: sorted(versions) for name, versions in table.models.items()}, table.defaults, table.faults)


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino


if __name__ == "__main__":
    main()
