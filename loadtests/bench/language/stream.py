"""Concurrent requests for streamed answers in OpenAI's form, with the time of every token.

One thread does little but record answers while they come in: the load shares the cores with the server.
"""

import json
import math
import selectors
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h11

from loadtests.bench.language.answers import Answer

PATIENCE = 120.0  # s without a byte from any connection


class StreamError(Exception):
    """A request was not answered by a whole stream; the message has the received part."""


@dataclass(frozen=True)
class Request:
    """A request, whose body is sent as JSON.

    Attributes:
        after: parts of its answer that every earlier request must have before this one is sent.
        delay: seconds from the request before it until this one is sent.
    """

    body: Mapping[str, Any]
    after: int = 0
    delay: float = 0.0


class _Connection:
    """A request in a connection of its own."""

    def __init__(self, request: Request, port: int, path: str) -> None:
        self.request = request
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.sent = -1.0  # s on the timer, as all moments here; below 0 before it is sent
        self.parts: list[tuple[float, bytes]] = []  # moments and parts of the answer's body
        self.status = 0
        self.ended = False
        self._http = h11.Connection(h11.CLIENT)
        body = json.dumps(dict(request.body)).encode()
        headers = [("host", "127.0.0.1"), ("content-type", "application/json"), ("content-length", str(len(body)))]
        events = h11.Request(method="POST", target=path, headers=headers), h11.Data(data=body), h11.EndOfMessage()
        self._bytes = b"".join(self._http.send(event) or b"" for event in events)

    def send(self) -> None:
        """Send the request."""
        self.sent = time.perf_counter()
        self.socket.sendall(self._bytes)

    def receive(self) -> None:
        """Receive and parse the available bytes."""
        data, moment = self.socket.recv(1 << 16), time.perf_counter()
        self._http.receive_data(data)
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                self.status = event.status_code
            elif isinstance(event, h11.Data):
                self.parts.append((moment, bytes(event.data)))
            elif not isinstance(event, h11.InformationalResponse):
                self.ended = isinstance(event, h11.EndOfMessage) or not data
                return


def ask(port: int, path: str, requests: Sequence[Request]) -> list[Answer]:
    """Send requests, each in a connection of its own, and wait for all answers.

    Args:
        requests: their bodies ask for a stream.

    Raises:
        StreamError: an answer was refused, broken off, or has no token.
        OSError: there is no server, or it answers nothing any more.
    """
    connections: list[_Connection] = []
    try:
        connections.extend(_Connection(request, port, path) for request in requests)
        started = time.perf_counter()
        _exchange(connections)
        return [_read(connection, started) for connection in connections]
    except h11.RemoteProtocolError as error:
        raise StreamError(f"{path} broke an answer off: {error}") from error
    finally:
        for connection in connections:
            connection.socket.close()


def _exchange(connections: Sequence[_Connection]) -> None:
    unsent = list(connections)
    with selectors.DefaultSelector() as selector:
        while unsent or selector.get_map():
            while unsent and (wait := _wait(unsent[0].request, connections)) <= 0:
                unsent[0].send()
                selector.register(unsent[0].socket, selectors.EVENT_READ, unsent.pop(0))
            patience = min(PATIENCE, wait) if unsent else PATIENCE
            ready = selector.select(patience)
            if not ready and patience == PATIENCE:
                raise TimeoutError(f"nothing came for {PATIENCE:.0f} s")
            for key, _ in ready:
                key.data.receive()
                if key.data.ended:
                    selector.unregister(key.fileobj)


def _wait(request: Request, connections: Sequence[_Connection]) -> float:
    """Return the seconds until a request is to be sent, infinity where others must have more of their answers first."""
    sent = [other for other in connections if other.sent >= 0]
    if any(len(other.parts) < request.after for other in sent):
        return math.inf
    return sent[-1].sent + request.delay - time.perf_counter() if sent else 0.0


def _read(connection: _Connection, started: float) -> Answer:
    whole = b"".join(part for _, part in connection.parts)
    if connection.status != 200 or b"data: [DONE]" not in whole:
        raise StreamError(f"{connection.request.body} was answered {connection.status}: {whole[-500:]!r}")
    texts, times = [], []
    counts: Mapping[str, Any] = {}
    for moment, event in _events(connection.parts):
        for choice in event["choices"]:
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text:
                texts.append(text)
                times.append(moment - started)
        counts = event.get("usage") or counts
    if not texts:
        raise StreamError(f"the answer to {connection.request.body} has no token: {whole!r}")
    cached = counts.get("prompt_tokens_details", {}).get("cached_tokens")
    return Answer("".join(texts), times, connection.sent - started, counts.get("prompt_tokens"), cached)


def _events(parts: Sequence[tuple[float, bytes]]) -> Iterator[tuple[float, dict[str, Any]]]:
    rest = b""
    for moment, part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield moment, json.loads(line.removeprefix(b"data: "))
