"""The short way of a plain prediction: from the parser to its model's batches and back, past ASGI.

Most requests are plain: a POST to the path of a served model, with a small body whose length is announced, while
nothing else on its connection waits for an answer. They need no task, no scope and no messages. Whatever is not plain
takes the way of ASGI, and has the same answer.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from handlers.http.content_encoding import HEADER
from handlers.http.kserve import EXPLAIN, PATH
from handlers.message import JSON, STATUS, Request, Response
from serving.hosts.direct.app import Identifiers
from serving.hosts.direct.batches import Overloaded
from serving.hosts.direct.http.compression import SMALLEST, compressed
from serving.hosts.direct.http.responses import refusal
from serving.hosts.direct.http.timeouts import PatientProtocol
from serving.hosts.direct.models import Models
from serving.hosts.direct.routes import Refused, Target
from serving.security.gate import Gate

LARGEST = 64 * 1024  # bytes of a body: the pieces of a larger one are counted, and reading is paused
# Headers that ask for more, and those that are the host's own.
_NOT_PLAIN = frozenset({HEADER, "expect", "transfer-encoding", "upgrade", "x-request-timeout", PATH, EXPLAIN})
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %s\r\n"


class ShortWay:
    """What the connections of a worker share.

    Args:
        refused: counts a request that is refused before it is in a batch.
    """

    def __init__(self, models: Models, gate: Gate, identifiers: Identifiers, refused: Refused) -> None:
        self._models, self.gate, self.identifiers, self.refused = models, gate, identifiers, refused

    def target(self, path: str) -> Target | None:
        """Return the model of a prediction's plain path; None for any other."""
        return self._models.table.targets.get(path)


class _Unheard:
    """Stands for the event by which uvicorn's protocol wakes a task: here is none."""

    def set(self) -> None:
        """Wake nobody."""


class Exchange:
    """A plain request and its answer. It has the attributes that uvicorn's protocol asks of a cycle.

    Args:
        key: name of the request's key; empty where it needs none.
    """

    message_event = _Unheard()

    def __init__(self, path: str, target: Target, headers: Mapping[str, str], key: str, keep_alive: bool) -> None:
        self.path, self.target, self.headers, self.key, self.keep_alive = path, target, headers, key, keep_alive
        self.body = b""
        self.future: asyncio.Future[Response] | None = None
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False


class ShortProtocol(PatientProtocol):
    """One connection, whose plain requests take the short way.

    Attributes:
        way: None where every request takes ASGI's.
    """

    way: ShortWay | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._exchange: Exchange | None = None  # the last

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header without the blanks around its value, which are no part of it (RFC 9110, section 5.5)."""
        super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        """Begin an exchange."""
        exchange = self._plain(self.way) if self.way else None
        if exchange is None:
            super().on_headers_complete()
        else:
            self.scope["path"] = exchange.path
            self.cycle = self._exchange = exchange  # type: ignore[assignment]
            self.begin_body()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a body."""
        cycle: Any = self.cycle
        if self._exchange and cycle is self._exchange:
            cycle.body = cycle.body + body if cycle.body else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Hand a whole request to its model."""
        super().on_message_complete()
        exchange, way = self._exchange, self.way
        cycle: Any = self.cycle
        if exchange and way and cycle is exchange:
            request = Request(exchange.body, exchange.headers, {}, way.identifiers.make())
            model = exchange.target.model
            exchange.future = model.batches.submit(request, model.patience)
            exchange.future.add_done_callback(partial(self._answer, way, exchange, request))

    def connection_lost(self, exc: Exception | None) -> None:
        """Spare the model a request whose client is gone."""
        super().connection_lost(exc)
        if self._exchange and self._exchange.future:
            self._exchange.future.cancel()

    def _plain(self, way: ShortWay) -> Exchange | None:
        """Return the exchange of a request that is plain and may be answered; else None."""
        path, parser = str(self.url, "latin-1"), self.parser
        target = way.target(path)
        if target is None or self._answering or self.flow.write_paused or parser.get_method() != b"POST":
            return None
        headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in self.headers}
        length = headers.get("content-length", "")
        plain = length.isdecimal() and int(length) <= LARGEST and _NOT_PLAIN.isdisjoint(headers)
        model = target.model
        if not plain or parser.get_http_version() != "1.1" or not model.batches.has_room(model.patience):
            return None
        key = way.gate.let_pass(self.headers, path, headers)
        if key is None:
            return None
        model.batches.count_arrival(int(length))
        if target.protocol:
            headers[EXPLAIN] = target.protocol
        return Exchange(path, target, headers, key, parser.should_keep_alive())

    def _answer(self, way: ShortWay, exchange: Exchange, request: Request, future: "asyncio.Future[Response]") -> None:
        try:
            response = future.result()
        except asyncio.CancelledError:
            self.transport.close()
            return
        except Overloaded as overload:
            way.refused(exchange.path, STATUS["overloaded"], "overloaded")
            response = refusal(overload, exchange.path, request)
        if len(response.body) < SMALLEST:
            self._write(way, exchange, request.id, response)
            return
        accepted = [(b"accept-encoding", exchange.headers.get("accept-encoding", "").encode("latin-1"))]
        task: asyncio.Task[Any] = self.loop.create_task(compressed(response, accepted))
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda done: self._write(way, exchange, request.id, done.result()))
        self.tasks.add(task)

    def _write(self, way: ShortWay, exchange: Exchange, ident: str, response: Response) -> None:
        if self.transport.is_closing():
            return
        status, body, kind = response.status, response.body, response.content_type
        if status == 200 and kind == JSON:
            head = _HEAD % (len(body), ident.encode())
        else:
            fields = (kind.encode("latin-1"), len(body), ident.encode())
            head = STATUS_LINE[status] + b"content-type: %s\r\ncontent-length: %d\r\nx-request-id: %s\r\n" % fields
        for name, value in response.headers.items():
            head += b"%s: %s\r\n" % (name.lower().encode("latin-1"), value.encode("latin-1"))
        stays = exchange.keep_alive and not (self.draining and not self.pipeline)
        if not stays:
            head += b"connection: close\r\n"
        if exchange.key:
            way.gate.count(exchange.key, status)
        exchange.response_started = exchange.response_complete = True
        self.transport.write(head + b"\r\n" + body)
        if not stays:
            self.transport.close()
        self.on_response_complete()
