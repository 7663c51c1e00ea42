"""Inflate compressed bodies (``Content-Encoding``, RFC 9110, 8.4) up to the largest body that is accepted."""

import importlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from handlers.message import MAX_BODY, InputError


def _find_zstd() -> Any:
    """Return Python 3.14's module, or its backport of the extra ``zstd``; None where neither is installed."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


HEADER = "content-encoding"
ZSTD = _find_zstd()
CODINGS = ("gzip", "deflate", *(("zstd",) if ZSTD else ()), "identity")
MOST_CODINGS = 3  # one over the other
MOST_MEMBERS = 200  # of a body: bgzip makes one of 64 KB, and each costs a copy of all that follow
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS  # windowBits of zlib's manual
_FAULTS: tuple[type[Exception], ...] = (zlib.error, ZSTD.ZstdError) if ZSTD else (zlib.error,)
_ZSTD_WINDOW = 23  # binary logarithm of its bytes, the most that RFC 9659 has decoders give
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
        body = _deflated(body) if coding == "deflate" else _members(body, coding)
    return body


def refusal_headers(error: InputError) -> dict[str, str]:
    """Return the headers of a refusal: of an unknown coding, the codings that are known (RFC 9110, 15.5.16)."""
    unknown = error.code == "unsupported_media_type" and error.path == HEADER and error.expected == ", ".join(CODINGS)
    return {"Accept-Encoding": error.expected} if unknown else {}


def _members(body: bytes, coding: str) -> bytes:
    """Inflate gzip (RFC 1952) or zstd (RFC 8878), which may have several members."""
    inflated = bytearray()
    rest = body
    for _ in range(MOST_MEMBERS):
        decoder = _zstd_decoder() if coding == "zstd" else zlib.decompressobj(_GZIP)
        inflated += _step(decoder, rest, MAX_BODY - len(inflated), coding)
        rest = decoder.unused_data
        if not rest:
            return bytes(inflated)
    raise InputError("invalid_encoding", f"the body has more than {MOST_MEMBERS} {coding} members", HEADER, _WRONG)


def _zstd_decoder() -> Any:
    return ZSTD.ZstdDecompressor(options={ZSTD.DecompressionParameter.window_log_max: _ZSTD_WINDOW})


def _deflated(body: bytes) -> bytes:
    """Inflate ``deflate``: zlib's format (RFC 1950), which some clients send without its frame."""
    framed = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    decoder = zlib.decompressobj(_ZLIB if framed else _RAW)
    inflated = _step(decoder, body, MAX_BODY, "deflate")
    if decoder.unused_data:
        raise InputError("invalid_encoding", "bytes follow the end of the deflate stream", HEADER, _WRONG)
    return inflated


def _step(decoder: Any, data: bytes, room: int, coding: str) -> bytes:
    try:
        inflated: bytes = decoder.decompress(data, room + 1)
    except _FAULTS as error:
        raise InputError("invalid_encoding", f"the body is no {coding}: {error}", HEADER, _WRONG) from None
    if len(inflated) > room:
        message = f"the body has more than {MAX_BODY} bytes when inflated"
        raise InputError("too_large", message, HEADER, f"at most {MAX_BODY} bytes")
    if not decoder.eof:
        raise InputError("invalid_encoding", f"the {coding} stream is cut short", HEADER, _WRONG)
    return inflated
