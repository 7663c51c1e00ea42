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
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from handlers.message import JSON, Request, Response

logger = logging.getLogger(__name__)

VERSION = "0.12.0"  # of TorchServe; in another one the functions that are replaced may mean something else
IDLE = 1.0  # s
_CHUNK = 1 << 16  # bytes asked of a recv; it returns what is there
_END = -1  # in place of a length, closes a list
_FORMS = ("multipart/", "application/x-www-form")
_int = struct.Struct("!i")
Answer = Callable[[Sequence[Request]], Sequence[Response | None]]


class Connection(Protocol):
    """The part of a socket that is used."""

    def recv(self, size: int, /) -> bytes:
        """Wait for bytes, and take up to ``size``; none means that the other side has closed."""

    def fileno(self) -> int:
        """Its number, to wait for bytes with a limit."""


def install(enabled: bool, version: str, answer: Answer, idle: Callable[[], None] | None = None) -> bool:
    """Make the worker in this process read its socket through a buffer, and ask ``answer`` for each batch directly.

    Args:
        enabled: whether to; if not, nothing is touched.
        version: TorchServe's; under any other than 0.12.0 nothing is touched and a warning is logged.
        answer: a response for each request, in order, or None for one of which nothing is said yet, which only
            continuous batching allows; must not raise.
        idle: called once where nothing has come for a second.

    Returns:
        Whether that is so now.
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
    protocol._retrieve_buffer = reader.read
    protocol._retrieve_inference_msg = reader.read_batch
    service.Service.predict = predict
    return True


def request_of(parts: Mapping[str, bytes], headers: Mapping[str, str], ident: str) -> Request:
    """What TorchServe hands on of a request, as the core sees it.

    Args:
        parts: the body under ``body`` or the parts of a form, and query parameters where the route passes them.
        headers: names in lower case.
        ident: TorchServe's id of the request.
    """
    if headers.get("content-type", "").lower().startswith(_FORMS):
        return Request(b"", headers, parts, ident)
    form = {name: value for name, value in parts.items() if name != "body"}
    return Request(parts.get("body", b""), headers, form, ident)


def encode(requests: Sequence[Request], responses: Sequence[Response | None]) -> bytes:
    """The message that answers a batch, as ``create_predict_response`` writes it; without those that are None."""
    parts = [_SUCCESS]
    for request, response in zip(requests, responses, strict=True):
        if response is None:
            continue
        plain = response.status == HTTPStatus.OK and response.content_type == JSON and not response.headers
        parts += _field(request.id.encode())
        parts.append(_PLAIN if plain else _meta(response))
        parts += _field(response.body)
    parts.append(_int.pack(_END))
    return b"".join(parts)


def _field(value: bytes) -> tuple[bytes, bytes]:
    return _int.pack(len(value)), value


def _meta(response: Response) -> bytes:
    """Content type, status, reason and headers of one response, the content type once more among the headers."""
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
    """Bytes of one connection that have arrived; those before ``start`` are used up."""

    def __init__(self) -> None:
        self.data = b""
        self.start = 0

    def fill(self, connection: Connection, missing: int) -> None:
        """Wait for ``missing`` more bytes at least, and drop what is used up."""
        chunks = [self.data[self.start :]]
        while missing > 0:
            chunk = connection.recv(max(_CHUNK, missing))
            if not chunk:
                logger.info("Frontend disconnected.")
                sys.exit(0)  # as TorchServe does
            chunks.append(chunk)
            missing -= len(chunk)
        self.data = b"".join(chunks)
        self.start = 0

    def use(self, stop: int) -> None:
        """Count everything before ``stop`` as used up; keep no body in memory until the next message."""
        self.data, self.start = (self.data, stop) if stop < len(self.data) else (b"", 0)


class Reader:
    """Reads messages; what arrives behind one message is kept for the next one on the same connection.

    Args:
        idle: called once where nothing has come for a second.
    """

    def __init__(self, idle: Callable[[], None] | None = None) -> None:
        self._idle = idle
        self._received: WeakKeyDictionary[Connection, _Received] = WeakKeyDictionary()

    def read(self, connection: Connection, length: int) -> bytes:
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
        while True:
            found = _parse(received.data, received.start)
            if isinstance(found, int):
                received.fill(connection, found)
                continue
            request, stop = found
            received.use(stop)
            if request is None:
                return requests
            requests.append(request)

    def _of(self, connection: Connection) -> _Received:
        received = self._received.get(connection)
        if received is None:
            received = self._received[connection] = _Received()
        return received


def _parse(data: bytes, at: int) -> tuple[Request | None, int] | int:
    """The request that begins at ``at`` and where it ends, or how many bytes are missing at least.

    Written out without a function for a field: a call for each would take twice the time of all the rest. Behind every
    field stands another length, so that where a field is cut short the next length is missing.
    """
    length_at = _int.unpack_from
    headers: dict[str, str] = {}
    parts: dict[str, bytes] = {}
    try:
        size, at = length_at(data, at)[0], at + 4
        if size == _END:
            return None, at
        ident = str(data[at : at + size], "utf-8", "replace")
        at += size
        while (size := length_at(data, at)[0]) != _END:
            name, at = data[at + 4 : at + 4 + size], at + 4 + size
            size = length_at(data, at)[0]
            headers[str(name, "utf-8", "replace").lower()] = str(data[at + 4 : at + 4 + size], "utf-8", "replace")
            at += 4 + size
        at += 4
        while (size := length_at(data, at)[0]) != _END:
            name, at = data[at + 4 : at + 4 + size], at + 4 + size
            at += 4 + length_at(data, at)[0]  # the part's content type
            size = length_at(data, at)[0]
            parts[str(name, "utf-8", "replace")] = data[at + 4 : at + 4 + size]
            at += 4 + size
        return request_of(parts, headers, ident), at + 4
    except struct.error:
        return at + 4 - len(data)
