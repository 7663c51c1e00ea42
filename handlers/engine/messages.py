"""Messages to a child and its answers: msgpack, with arrays of NumPy, behind their length on a socket.

Nothing is unpickled, so that the code of a child cannot run where its answer is read.
"""

import socket
import struct
import time
from typing import Any

import msgspec
import numpy as np

_ARRAY = 1  # msgpack's extension type
_PIECE = 1 << 20  # bytes that are received at once


def encode(message: Any) -> bytes:
    """Write a message.

    Raises:
        TypeError: it has a value that no message may have.
    """
    return msgspec.msgpack.encode(message, enc_hook=_extension)


def decode(body: bytes | bytearray) -> Any:
    """Read a message; arrays may be written to."""
    return msgspec.msgpack.decode(body, ext_hook=_array)


def send(sock: socket.socket, body: bytes, end: float | None = None) -> None:
    """Send a message; raise ``TimeoutError`` after a time of the monotonic clock."""
    sock.settimeout(_left(end))
    sock.sendall(struct.pack(">Q", len(body)))
    sock.settimeout(_left(end))
    sock.sendall(body)


def receive(sock: socket.socket, end: float | None = None) -> Any:
    """Receive a message; raise ``EOFError`` at the other's end, and ``TimeoutError`` after a time."""
    (size,) = struct.unpack(">Q", _received(sock, 8, end))
    try:
        return decode(_received(sock, size, end))
    except msgspec.MsgspecError as error:
        raise EOFError("no message") from error


def _left(end: float | None) -> float | None:
    return None if end is None else max(1e-3, end - time.monotonic())


def _received(sock: socket.socket, size: int, end: float | None) -> bytearray:
    body = bytearray()
    while len(body) < size:
        sock.settimeout(_left(end))
        piece = sock.recv(min(size - len(body), _PIECE))
        if not piece:
            raise EOFError
        body += piece
    return body


def _extension(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a message cannot hold a {type(value).__name__}")
    cells: Any = value.ravel().tolist() if value.dtype.hasobject else value.tobytes()
    entries = [value.dtype.str, value.shape, cells]
    return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(entries, enc_hook=_extension))


def _array(code: int, data: memoryview) -> Any:
    dtype, shape, cells = msgspec.msgpack.decode(data)
    if isinstance(cells, list):
        array = np.empty(len(cells), object)
        array[:] = cells
    else:
        array = np.frombuffer(bytearray(cells), dtype)
    return array.reshape(shape)
