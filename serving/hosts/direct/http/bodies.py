"""Read the body of a request, whole and without its compression."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from handlers.http import content_encoding
from handlers.message import MAX_BODY, InputError, Part, Request

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
INLINE = 1024  # bytes of a compressed body that are inflated in the event loop: they hold 1 MB at most


class UnreadBody(InputError):
    """A body that was not read to its end: its connection cannot be used again."""


def announced_size(headers: Mapping[str, str]) -> int:
    """Return the bytes of a body that are announced; none where it comes in chunks."""
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


async def read_request(headers: dict[str, str], query: bytes, receive: Receive, ident: str) -> Request | None:
    """Read a request's body as it was sent; None if its client is gone.

    Raises:
        UnreadBody: it is larger than a body may be.
    """
    message = await receive()
    body: bytes | None = message.get("body", b"")
    if body is not None and (message.get("more_body") or len(body) > MAX_BODY):
        body = await _whole(body, message, headers, receive)
    if message["type"] == "http.disconnect" or body is None:
        return None
    return Request(body, headers, {}, ident) if not query else _with_query(body, headers, query, ident)


async def inflated(request: Request) -> Request:
    """Return a request without the compression of its body.

    Raises:
        InputError: its coding is unknown, its body is not in it, or is larger than a body may be.
    """
    codings = content_encoding.codings(request.headers)
    if not codings:
        return request
    if len(request.body) <= INLINE:
        body = content_encoding.inflate(request.body, codings)
    else:
        body = await asyncio.to_thread(content_encoding.inflate, request.body, codings)
    headers = {name: value for name, value in request.headers.items() if name != content_encoding.HEADER}
    return request._replace(body=body, headers=headers)


async def _whole(
    body: bytes, message: MutableMapping[str, Any], headers: Mapping[str, str], receive: Receive
) -> bytes | None:
    """Read the rest of a body; None if its client is gone.

    Raises:
        UnreadBody: it is larger than a body may be.
    """
    pieces, size = [body], len(body)
    if announced_size(headers) > MAX_BODY:
        size = announced_size(headers)
    while size <= MAX_BODY and message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
    if size > MAX_BODY:
        raise UnreadBody("too_large", f"the body has more than {MAX_BODY} bytes", "body", f"at most {MAX_BODY} bytes")
    return b"".join(pieces)


def _with_query(body: bytes, headers: Mapping[str, str], query: bytes, ident: str) -> Request:
    pairs = parse_qsl(str(query, "latin-1"), keep_blank_values=True)
    parts = tuple(Part(name, value.encode()) for name, value in pairs)
    return Request(body, headers, {part.name: part.body for part in parts}, ident, parts)
