"""Refusals in the form of the route that was asked; how a response is waited for, and sent over ASGI."""

import asyncio
import math
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from handlers.http.content_encoding import refusal_headers
from handlers.http.kserve import V1, V2
from handlers.language.api.answers import error_body
from handlers.message import JSON, STATUS, InputError, Request, Response, error_response
from serving.hosts.direct.batches import Overloaded
from serving.hosts.direct.http.bodies import UnreadBody
from serving.hosts.direct.http.compression import SMALLEST, compressed
from serving.hosts.direct.routes import OPENAI, protocol_of

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AWAITED = "marloop.awaited"  # of a scope: what its client waits for; other servers than ours have none
_JSON = (b"content-type", JSON.encode())


class Awaited:
    """What a client waits for.

    Attributes:
        answer: to its request; None where it has asked nothing.
    """

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: asyncio.Future[Response] | None = None

    def cancel(self) -> None:
        """Cancel the answer, as its client is gone: it is not computed unless that has begun."""
        if self.answer is not None:
            self.answer.cancel()


def awaited_by(scope: Scope, answer: asyncio.Future[Response]) -> asyncio.Future[Response]:
    """Return the answer to a request, which is cancelled when its client leaves before it is there."""
    if AWAITED in scope:
        scope[AWAITED].answer = answer
    return answer


def refusal(fault: InputError | Overloaded, path: str, request: Request) -> Response:
    """Return the response to a fault, in the form of the API of a path: OpenAI's, KServe's or the native one."""
    if isinstance(fault, Overloaded):
        message = f"the requests before this one take {fault.seconds:.2g} s"
        error = InputError("overloaded", message, expected="the same request again, later")
        headers = {"Retry-After": str(max(1, math.ceil(fault.seconds)))}
    else:
        error, headers = fault, refusal_headers(fault)
        if isinstance(fault, UnreadBody):
            headers["Connection"] = "close"
    protocol = protocol_of(path)
    if protocol == OPENAI:
        return Response(STATUS[error.code], error_body(error), headers=headers, error=error)
    return error_response(error, request, as_text=protocol in (V1, V2))._replace(headers=headers)


def not_allowed(path: str, request: Request, allowed: str) -> Response:
    """Return the response to another method than the one that a path takes (RFC 9110, 15.5.6)."""
    response = refusal(InputError("not_found", f"{path} takes {allowed}", "method", allowed), path, request)
    return response._replace(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": allowed})


async def send_response(scope: Scope, send: Send, response: Response, ident: str) -> None:
    """Send a whole response to a request, compressed where the client asks for that."""
    if len(response.body) >= SMALLEST:
        response = await compressed(response, scope["headers"])
    body = response.body
    headers: list[tuple[bytes, bytes]] = [
        _JSON if response.content_type == JSON else (b"content-type", response.content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", ident.encode()),
    ]
    if response.headers:
        headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
