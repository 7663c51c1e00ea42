"""Compress answers for clients that ask for it by ``Accept-Encoding`` (RFC 9110, 12.5.3)."""

import asyncio
import re
import zlib
from collections.abc import Iterable
from functools import lru_cache

from handlers.http.content_encoding import ZSTD
from handlers.message import JSON, Response

SMALLEST = 1200  # bytes: with less an answer and its head fit one packet, which compression does not make fewer
INLINE = 256 * 1024  # bytes that are compressed in the event loop: 1.3 ms
LEVEL = 1  # of gzip and zstd: numbers in JSON become half, of 10 KB in 61 us; at level 6 it is a twentieth less in 125
CODINGS = (*(("zstd",) if ZSTD else ()), "gzip")  # the preferred one first
LONGEST = 1000  # bytes of the header; a longer one is ignored
_WEIGHT = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*")


async def compressed(response: Response, headers: Iterable[tuple[bytes, bytes]]) -> Response:
    """Return an answer as a request's headers accept it; what does not become smaller, such as tensors, stays.

    Args:
        response: of ``SMALLEST`` bytes or more.
        headers: of the request, names in lower case.
    """
    if not response.content_type.startswith((JSON, "text/")):
        return response
    accepted = b",".join([value for name, value in headers if name == b"accept-encoding"])
    coding = choose_coding(accepted.decode("latin-1")) if 0 < len(accepted) <= LONGEST else ""
    changed = {**response.headers, "Vary": "Accept-Encoding"}
    if not coding:
        return response._replace(headers=changed)
    if len(response.body) <= INLINE:
        body = _compress(response.body, coding)
    else:
        body = await asyncio.to_thread(_compress, response.body, coding)
    return response._replace(body=body, headers=changed | {"Content-Encoding": coding})


@lru_cache(maxsize=256)
def choose_coding(header: str) -> str:
    """Return the coding of the highest weight; empty where the plain answer has a higher one, or none is known.

    Args:
        header: ``Accept-Encoding``. A malformed element is skipped.
    """
    weights: dict[str, float] = {}
    for element in header.lower().split(","):
        name, _, parameter = element.partition(";")
        weight = _WEIGHT.fullmatch(parameter)
        if weight or not parameter:
            weights[name.strip().removeprefix("x-")] = float(weight[1]) if weight else 1.0
    offered = {coding: weights.get(coding, weights.get("*", 0.0)) for coding in CODINGS}
    best = max(offered, key=lambda coding: offered[coding])
    return best if offered[best] > 0 and offered[best] >= weights.get("identity", 0.0) else ""


def _compress(body: bytes, coding: str) -> bytes:
    if coding == "zstd":
        packed: bytes = ZSTD.compress(body, LEVEL)
        return packed
    packer = zlib.compressobj(LEVEL, wbits=16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()
