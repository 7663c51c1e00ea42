"""The socket between TorchServe's frontend and its worker: a batch's bytes to requests, responses to bytes.

TorchServe reads every field of a message with a ``recv`` of its own, some 40 a request, and carries each request
through four lists and dicts. Here a ``recv`` takes whatever has arrived, and requests are cut out of that for the core.
Only the entry points use this; the core knows nothing of TorchServe.
"""

import importlib
import logging
import select
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from handlers.message import JSON, MOST_PARTS, NEXT, Part, Request, Response

logger = logging.getLogger(__name__)

VERSION = "0.12.0"  # of TorchServe; in another one the replaced functions may differ
IDLE = 1.0  # s
_CHUNK = 1 << 16  # most bytes of a recv
_END = -1  # in place of a length, closes a list
_FORMS = ("multipart/", "application/x-www-form")
_int = struct.Struct("!i")
Answer = Callable[[Sequence[Request]], Sequence[Response | None]]


class Connection(Protocol):
    """The part of a socket that is used."""

    def recv(self, size: int, /) -> bytes:
        """Wait for bytes, and take up to ``size``; none means that the other side has closed."""

    def fileno(self) -> int:
        """Return its number, to wait for bytes with a limit."""


def install(enabled: bool, version: str, answer: Answer, idle: Callable[[], None] | None = None) -> bool:
    """Make the worker in this process read its socket through a buffer, and hand each batch to ``answer`` directly.

    Args:
        enabled: False: nothing is touched.
        version: TorchServe's; with any other than 0.12.0 nothing is touched and a warning is logged.
        answer: returns a response for each request, in order, or None for one without an answer yet, which only
            continuous batching allows; must not raise.
        idle: called once where no byte came for a second.

    Returns:
        Whether it was done.
    """
    if not enabled:
        return False
    if version != VERSION:
        logger.warning("TorchServe is %s, not %s: its socket is read without a buffer, slower", version, VERSION)
        return False

    def predict(service: Any, requests: list[Request]) -> bytes:
        return encode(requests, answer(requests))

    protocol: Any = importlib.import_module("ts.protocol.otf_message_handler")
    service: Any = importlib.import_module("ts.service")
    reader = Reader(idle)
    protocol._retrieve_buffer = reader.read_bytes
    protocol._retrieve_inference_msg = reader.read_batch
    service.Service.predict = predict
    return True


def request_of(parts: Sequence[Part], headers: Mapping[str, str], ident: str) -> Request:
    """Return the core's request for one of TorchServe.

    Args:
        parts: the body under ``body`` or the parts of a form, and query parameters where the route passes them.
        headers: names in lower case.
        ident: TorchServe's id of the request.
    """
    if len(parts) == 1 and not headers:  # a call by gRPC, whose clients choose the name
        return Request(parts[0].body, headers, {}, ident)
    fields = {part.name: part.body for part in parts}
    # The frontend hands on a form that it does not recognize as a body of that type.
    whole = any(part.name == "body" and part.content_type.lower().startswith(_FORMS) for part in parts)
    if _is_form(headers) and not whole:
        return Request(b"", headers, fields, ident, tuple(parts))
    body = fields.pop("body", b"")
    return Request(body, headers, fields, ident, tuple(part for part in parts if part.name != "body"))


def _is_form(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").lower().startswith(_FORMS)


def encode(requests: Sequence[Request], responses: Sequence[Response | None]) -> bytes:
    """Return the message that answers a batch, as ``create_predict_response`` writes it; None is left out."""
    parts = [_SUCCESS]
    for request, response in zip(requests, responses, strict=True):
        if response is None:
            continue
        if not request.headers:
            response = as_last(response)
        plain = response.status == HTTPStatus.OK and response.content_type == JSON and not response.headers
        parts += _field(request.id.encode())
        parts.append(_PLAIN if plain else _meta(response))
        parts += _field(response.body)
    parts.append(_int.pack(_END))
    return b"".join(parts)


def as_last(response: Response) -> Response:
    """Mark the answer to a call by gRPC, which has no headers, as the last one, unless it has the mark.

    TorchServe needs it for ``StreamPredictions``, and ends the worker where it is missing.
    """
    return response._replace(headers={NEXT: "false"} | dict(response.headers))


def _field(value: bytes) -> tuple[bytes, bytes]:
    return _int.pack(len(value)), value


def _meta(response: Response) -> bytes:
    """Return a response's content type, status, reason and headers, the content type once more among these."""
    phrase = "" if response.status == HTTPStatus.OK else HTTPStatus(response.status).phrase
    headers = {"content-type": response.content_type} | dict(response.headers)
    parts = [*_field(response.content_type.encode()), _int.pack(response.status), *_field(phrase.encode())]
    parts.append(_int.pack(len(headers)))
    for name, value in headers.items():
        parts += (*_field(name.encode()), *_field(value.encode()))
    return b"".join(parts)


_SUCCESS = _int.pack(HTTPStatus.OK) + b"".join(_field(b"Prediction success"))
_PLAIN = _meta(Response(HTTPStatus.OK, b""))


class _Received:
    """Bytes from a connection; those before ``start`` are used up."""

    def __init__(self) -> None:
        self.data = b""
        self.start = 0

    def fill(self, connection: Connection, missing: int) -> None:
        """Wait for at least ``missing`` more bytes, and drop used ones."""
        data = bytearray(self.data[self.start :])
        stop = len(data) + missing
        while len(data) < stop:
            chunk = connection.recv(max(_CHUNK, stop - len(data)))
            if not chunk:
                logger.info("Frontend disconnected.")
                sys.exit(0)  # as TorchServe does
            data += chunk
        self.data = bytes(data)
        self.start = 0

    def use(self, stop: int) -> None:
        """Use up all bytes before ``stop``; keep no body in memory until the next message."""
        self.data, self.start = (self.data, stop) if stop < len(self.data) else (b"", 0)


class Reader:
    """Reads messages; bytes behind a message are kept for the next one on the same connection."""

    def __init__(self, idle: Callable[[], None] | None = None) -> None:
        self._idle = idle
        self._received: WeakKeyDictionary[Connection, _Received] = WeakKeyDictionary()

    def read_bytes(self, connection: Connection, length: int) -> bytes:
        """Read ``length`` bytes, in place of ``_retrieve_buffer``.

        Raises:
            SystemExit: the frontend closed the connection.
        """
        received = self._of(connection)
        missing = received.start + length - len(received.data)
        if missing > 0:
            if self._idle and not select.select([connection], [], [], IDLE)[0]:
                self._idle()
            received.fill(connection, missing)
        stop = received.start + max(0, length)
        field = received.data[received.start : stop]
        received.use(stop)
        return field

    def read_batch(self, connection: Connection) -> list[Request]:
        """Read the requests of a batch, in place of ``_retrieve_inference_msg``.

        Raises:
            SystemExit: the frontend closed the connection.
        """
        received = self._of(connection)
        requests: list[Request] = []
        begun: _Begun | None = None
        while True:
            stop, request, begun, missing = _parse(received.data, received.start, begun)
            received.use(stop)
            if request:
                requests.append(request)
            elif missing:
                received.fill(connection, missing)
            else:
                return requests

    def _of(self, connection: Connection) -> _Received:
        received = self._received.get(connection)
        if received is None:
            received = self._received[connection] = _Received()
        return received


_Raw = tuple[bytes, bytes, bytes]  # name, content type and value of a part


class _Begun(NamedTuple):
    """The parts of a request that have arrived whole."""

    ident: str
    headers: dict[str, str]
    parts: list[_Raw]
    in_parts: bool


def _parse(data: bytes, start: int, begun: _Begun | None) -> tuple[int, Request | None, _Begun | None, int]:
    """Read a request from ``start`` on, or the rest of one that has begun.

    A whole field is never read again, so that a request of many fields costs as much however it arrives. A function for
    a field would take twice the time of all the rest. Another length follows every field, so that where a field is cut
    short the next length is missing.

    Returns:
        The end of the used bytes; the request, if it is whole; else its begun part, and the least number of missing
        bytes, which is 0 at the end of the list.
    """
    length_at = _int.unpack_from
    at = used = start
    headers: dict[str, str] = {}
    parts: list[_Raw] = []
    in_parts = False
    try:
        if begun:
            ident, headers, parts, in_parts = begun
        else:
            size, at = length_at(data, at)[0], at + 4
            if size == _END:
                return at, None, None, 0
            ident = str(data[at : at + size], "utf-8", "replace")
            at += size
        if not in_parts:
            while (size := length_at(data, at)[0]) != _END:
                used = at
                name, at = data[at + 4 : at + 4 + size], at + 4 + size
                size = length_at(data, at)[0]
                headers[str(name, "utf-8", "replace").lower()] = str(data[at + 4 : at + 4 + size], "utf-8", "replace")
                at += 4 + size
            at += 4
            used, in_parts = at, True
        while (size := length_at(data, at)[0]) != _END:
            used = at
            name, at = data[at + 4 : at + 4 + size], at + 4 + size
            size = length_at(data, at)[0]
            kind, at = data[at + 4 : at + 4 + size], at + 4 + size
            size = length_at(data, at)[0]
            value, at = data[at + 4 : at + 4 + size], at + 4 + size
            length_at(data, at)  # else the value is cut short
            if len(parts) <= MOST_PARTS:  # the core refuses one part more
                parts.append((name, kind, value))
        if len(parts) == 1 and parts[0][0] == b"body" and not _is_form(headers):  # as nearly always
            return at + 4, Request(parts[0][2], headers, {}, ident), None, 0
        return at + 4, request_of([_part(raw) for raw in parts], headers, ident), None, 0
    except struct.error:
        missing = at + 4 - len(data)
        return used, None, begun if used == start else _Begun(ident, headers, parts, in_parts), missing


def _part(raw: _Raw) -> Part:
    name, kind, value = raw
    return Part(str(name, "utf-8", "replace"), value, str(kind, "utf-8", "replace"))
