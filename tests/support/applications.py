"""Serve an application of a test for real: what is told of sockets needs one."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

from tests.support.waiting import wait_until


@contextlib.contextmanager
def served(app: Any, http: Any = "auto") -> Iterator[str]:
    """Yield the URL of an ASGI application on this machine.

    Args:
        http: class of the connections; uvicorn's own unless it is named.
    """
    server = uvicorn.Server(uvicorn.Config(app, http=http, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
