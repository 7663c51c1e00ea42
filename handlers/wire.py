"""Buffered reads of the socket between TorchServe's frontend and its worker.

TorchServe reads every field of a message with a ``recv`` of its own: some 40 a request. Here a ``recv`` takes whatever
has arrived, and the fields are cut out of that. Only the entry points use this; the core knows nothing of TorchServe.
"""

import importlib
import logging
import struct
import sys
from typing import Any, Protocol
from weakref import WeakKeyDictionary

logger = logging.getLogger(__name__)

VERSION = "0.12.0"  # of TorchServe; in another one the functions that are replaced may mean something else
_CHUNK = 1 << 16  # bytes asked of a recv; it returns what is there
_END = -1  # in place of a length, closes a list
_int = struct.Struct("!i")


class Connection(Protocol):
    """The part of a socket that is used."""

    def recv(self, size: int, /) -> bytes:
        """Wait for bytes, and take up to ``size``; none means that the other side has closed."""


def install(enabled: bool, version: str) -> bool:
    """Make the worker in this process read its socket through a buffer.

    Bodies are handed on undecoded, as TorchServe does under ``TS_DECODE_INPUT_REQUEST=false``.

    Args:
        enabled: whether to; if not, nothing is touched.
        version: TorchServe's; under any other than 0.12.0 nothing is touched and a warning is logged.

    Returns:
        Whether reads are buffered now.
    """
    if not enabled:
        return False
    if version != VERSION:
        logger.warning("TorchServe is %s, not %s: its socket is read without a buffer, slower", version, VERSION)
        return False
    protocol: Any = importlib.import_module("ts.protocol.otf_message_handler")
    reader = Reader()
    protocol._retrieve_buffer = reader.read
    protocol._retrieve_request = reader.read_request
    return True


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
    """Reads messages; what arrives behind one message is kept for the next one on the same connection."""

    def __init__(self) -> None:
        self._received: WeakKeyDictionary[Connection, _Received] = WeakKeyDictionary()

    def read(self, connection: Connection, length: int) -> bytes:
        """Read ``length`` bytes, in place of ``_retrieve_buffer``.

        Raises:
            SystemExit: the frontend closed the connection.
        """
        received = self._of(connection)
        missing = received.start + length - len(received.data)
        if missing > 0:
            received.fill(connection, missing)
        stop = received.start + max(0, length)
        field = received.data[received.start : stop]
        received.use(stop)
        return field

    def read_request(self, connection: Connection) -> dict[str, Any] | None:
        """Read one request of a batch, in place of ``_retrieve_request``.

        Returns:
            ``requestId``, ``headers`` and ``parameters`` as TorchServe has them; None at the end of the batch.

        Raises:
            SystemExit: the frontend closed the connection.
            UnicodeDecodeError: a parameter's name or content type is not UTF-8.
        """
        received = self._of(connection)
        while True:
            found = _parse(received.data, received.start)
            if not isinstance(found, int):
                request, stop = found
                received.use(stop)
                return request
            received.fill(connection, found)

    def _of(self, connection: Connection) -> _Received:
        received = self._received.get(connection)
        if received is None:
            received = self._received[connection] = _Received()
        return received


def _parse(data: bytes, at: int) -> tuple[dict[str, Any] | None, int] | int:
    """The request that begins at ``at`` and where it ends, or how many bytes are missing at least.

    Written out without a function for a field: a call for each would take twice the time of all the rest. Behind every
    field stands another length, so that where a field is cut short the next length is missing.
    """
    length_at = _int.unpack_from
    headers: list[dict[str, bytes]] = []
    parameters: list[dict[str, Any]] = []
    try:
        size, at = length_at(data, at)[0], at + 4
        if size == _END:
            return None, at
        request = {"requestId": data[at : at + size], "headers": headers, "parameters": parameters}
        at += size
        while (size := length_at(data, at)[0]) != _END:
            name, at = data[at + 4 : at + 4 + size], at + 4 + size
            size = length_at(data, at)[0]
            headers.append({"name": name, "value": data[at + 4 : at + 4 + size]})
            at += 4 + size
        at += 4
        while (size := length_at(data, at)[0]) != _END:
            name, at = data[at + 4 : at + 4 + size], at + 4 + size
            size = length_at(data, at)[0]
            kind, at = data[at + 4 : at + 4 + size], at + 4 + size
            size = length_at(data, at)[0]
            value = data[at + 4 : at + 4 + size]
            parameters.append({"name": name.decode(), "contentType": kind.decode(), "value": value})
            at += 4 + size
        return request, at + 4
    except struct.error:
        return at + 4 - len(data)
