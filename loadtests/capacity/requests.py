"""The requests of a model that capacity is measured with."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from handlers.contract import ModelContract
from loadtests.requests import draws, payloads
from loadtests.requests.payloads import Payload


class Target(NamedTuple):
    """A service, and what it is asked.

    Attributes:
        request: makes a whole request, head and body, just before it is sent.
    """

    host: str
    port: int
    request: Callable[[], bytes]


def payload_of_rows(contract: ModelContract, rows: int, seed: int = 0) -> Payload:
    """Return a request of so many plausible rows; of a handler from elsewhere, its example."""
    if contract.task == "opaque":
        return payloads.example(contract)
    values = draws.plausible(contract, np.random.default_rng(seed), rows)
    return payloads.payload_of(contract, "valid", "native" if rows == 1 else "v1", values)


def target(contract: ModelContract, payload: Payload, url: str, key: Mapping[str, str]) -> Target:
    """Return the service at a URL, asked with a payload.

    Args:
        key: headers that let the client in.
    """
    address = urlsplit(url)
    host, port = address.hostname or "127.0.0.1", address.port or 80
    head = "".join(f"{name}: {value}\r\n" for name, value in {**payload.headers, **key}.items())
    head = f"POST {payload.path(contract.name)} HTTP/1.1\r\nHost: {host}:{port}\r\n{head}"

    def request() -> bytes:
        start = f"X-Request-Start: t={time.time():.3f}\r\nContent-Length: {len(payload.body)}\r\n\r\n"
        return f"{head}{start}".encode() + payload.body

    return Target(host, port, request)
