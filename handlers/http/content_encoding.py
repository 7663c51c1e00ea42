"""Inflate compressed bodies (``Content-Encoding``, RFC 9110, 8.4) up to the largest body that is accepted."""

import re
import zlib
from collections.abc import Mapping, Sequence

from handlers.message import MAX_BODY, InputError

HEADER = "content-encoding"
CODINGS = ("gzip", "deflate", "identity")
MOST_CODINGS = 3  # one over the other
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS  # windowBits of zlib's manual
_WRONG = "a whole body in the coding that the header names"


def codings(headers: Mapping[str, str]) -> list[str]:
    """Return the codings of a body in the order in which they were applied.

    Args:
        headers: names in lower case.

    Raises:
        InputError: a coding is unknown, or there are too many.
    """
    names = [name.lower() for name in _SEPARATOR.split(headers.get(HEADER, "").strip(" \t")) if name]
    applied = ["gzip" if name == "x-gzip" else name for name in names if name != "identity"]
    unknown = [name for name in applied if name not in CODINGS]
    if unknown or len(applied) > MOST_CODINGS:
        fault = f"by {unknown[0]!r}" if unknown else f"{len(applied)} times"
        raise InputError("unsupported_media_type", f"the body is encoded {fault}", HEADER, ", ".join(CODINGS))
    return applied


def inflate(body: bytes, applied: Sequence[str]) -> bytes:
    """Undo the codings of a body, the last one first.

    Raises:
        InputError: the body is not in one of the codings, or is too large when inflated.
    """
    for coding in reversed(applied):
        body = _members(body) if coding == "gzip" else _deflated(body)
    return body


def _members(body: bytes) -> bytes:
    """Inflate gzip (RFC 1952), which may have several members."""
    inflated = bytearray()
    rest = body
    while rest or not inflated:
        decoder = zlib.decompressobj(_GZIP)
        inflated += _step(decoder, rest, MAX_BODY - len(inflated), "gzip")
        rest = decoder.unused_data
        if not rest:
            break
    return bytes(inflated)


def _deflated(body: bytes) -> bytes:
    """Inflate ``deflate``: zlib's format (RFC 1950), which some clients send without its frame."""
    framed = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    decoder = zlib.decompressobj(_ZLIB if framed else _RAW)
    inflated = _step(decoder, body, MAX_BODY, "deflate")
    if decoder.unused_data:
        raise InputError("invalid_encoding", "bytes follow the end of the deflate stream", HEADER, _WRONG)
    return inflated


def _step(decoder: "zlib._Decompress", data: bytes, room: int, coding: str) -> bytes:
    try:
        inflated = decoder.decompress(data, room + 1)
    except zlib.error as error:
        raise InputError("invalid_encoding", f"the body is no {coding}: {error}", HEADER, _WRONG) from None
    if len(inflated) > room:
        message = f"the body has more than {MAX_BODY} bytes when inflated"
        raise InputError("too_large", message, HEADER, f"at most {MAX_BODY} bytes")
    if not decoder.eof:
        raise InputError("invalid_encoding", f"the {coding} stream is cut short", HEADER, _WRONG)
    return inflated
