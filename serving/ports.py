"""Ports for a copy of the service beside others on this machine."""

import contextlib
import socket
from pathlib import Path
from typing import Any

from serving.settings import Settings


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def on_free_ports(store: Path, run_dir: Path) -> Settings:
    """Settings of a copy that listens where nothing else does, on this machine alone."""
    names = [name for name in Settings.__annotations__ if name.endswith("_port")]
    ports: dict[str, Any] = dict(zip(names, free_ports(len(names)), strict=True))
    return Settings(model_store=store, run_dir=run_dir, **ports)
