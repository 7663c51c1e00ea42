"""Ports on which nothing listens, for a copy of the service beside others."""

import contextlib
import fcntl
import json
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

FIRST = 10_000  # the first port that is given
KEPT = 60.0  # s in which a port is given once: a server may take as long to listen
LARGEST = 1_000_000  # bytes of the file that holds them


def free_ports(count: int) -> list[int]:
    """Return so many ports that nothing listens on now, and that no process of this user was given of late.

    None is of those that the kernel gives to outgoing connections: a client could take it before the server listens.
    """
    return _take([1] * count)


def free_span(count: int) -> int:
    """Return the first of so many ports in a row, each as those of ``free_ports``."""
    return _take([count])[0]


def _take(sizes: list[int]) -> list[int]:
    """Return the first port of a span of each size."""
    chance, end, firsts = random.SystemRandom(), _first_outgoing(), list[int]()
    with _given() as given:
        while len(firsts) < len(sizes):
            size = sizes[len(firsts)]
            first = chance.randrange(FIRST, end - size + 1)
            span = range(first, first + size)
            if given.keys().isdisjoint(map(str, span)) and all(map(_is_free, span)):
                given.update(dict.fromkeys(map(str, span), time.time()))
                firsts.append(first)
    return firsts


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("", port))  # on all addresses: some servers listen there, or on another one of this machine
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _given() -> Iterator[dict[str, float]]:
    """Yield when ports were given, in seconds since the epoch, and keep what is added; one process looks at a time."""
    given: dict[str, float] = {}
    path = Path(tempfile.gettempdir()) / f"marloop-ports-{os.getuid()}"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # somebody else's file: whoever looks at the same time may get the same port
        yield given
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        now = time.time()
        with contextlib.suppress(ValueError, AttributeError, TypeError):  # empty, or a write that was killed
            given |= {port: at for port, at in json.loads(os.read(file, LARGEST)).items() if 0 <= now - at < KEPT}
        yield given
        with contextlib.suppress(OSError):  # a full disk
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(given).encode(), 0)
    finally:
        os.close(file)


def _first_outgoing() -> int:
    """Return the first port that the kernel gives to an outgoing connection; Linux's default where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()[0])
        if first > 2 * FIRST:
            return first
    return 32768
