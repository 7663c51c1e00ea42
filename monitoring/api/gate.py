"""The checks of every call before the application sees it: access, size and kind of the body, and time.

FastAPI reads a body before it calls its dependencies. The gate refuses a caller without access before it reads
anything, and limits the bytes, the time and the depth of a body.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring.api.events import LARGEST as LARGEST_BATCH

Admit = Callable[[Request], None]  # raises an HTTPException
SAFE = ("GET", "HEAD", "OPTIONS")
LARGEST = 4_000_000  # bytes of a body; 10,000 labels with long ids are less
LARGEST_OF = {"/events": LARGEST_BATCH}
DEEPEST = 64  # nested lists and objects
PATIENCE = 15.0  # s for a body, and for an answer that comes from the store
RETRY_AFTER = "5"  # s
CONSOLE = "/console/"  # its routes read forms, limit them, and show faults as pages
SLOW = ("/promote", "/rollback", "/try")  # wait for workers, which have time-outs of their own
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


class Gate:
    """The outermost layer of the application.

    Args:
        admit: refuses callers that may change nothing; None to let everyone.
    """

    def __init__(self, app: ASGIApp, admit: Admit | None = None) -> None:
        self._app, self._admit = app, admit
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a call, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] in SAFE:
            await self._in_time(scope, receive, send)
            return
        request = Request(scope)
        try:
            if self._admit:
                self._admit(request)
        except HTTPException as error:
            if scope["path"].startswith(CONSOLE):  # its routes refuse the call again, as a page; they get no body
                await self._app(scope, _no_body, _closing(send))
                return
            refusal = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
            await refusal(scope, receive, _closing(send))
            return
        if scope["path"].startswith(CONSOLE):
            await self._in_time(scope, receive, send)
            return
        try:
            body = await read_body(request, receive)
        except HTTPException as error:
            refusal = JSONResponse({"detail": error.detail}, error.status_code)
            await refusal(scope, receive, _closing(send))
            return
        await self._in_time(scope, _replay(body, receive), send)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, or answer a 503 after ``PATIENCE``, when threads wait for the store."""
        if scope["path"].endswith(SLOW):
            await self._app(scope, receive, send)
            return
        started = given_up = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if not given_up:
                started = True
                await send(message)

        task = asyncio.ensure_future(self._app(scope, receive, guarded))
        await asyncio.wait([task], timeout=PATIENCE)
        if task.done() or started:
            await task
            return
        given_up = True
        self._late.add(task)  # a thread cannot be ended; it finishes when the store is back
        task.add_done_callback(self._forget)
        detail = f"no answer within {PATIENCE:g} s: the store is busy or away"
        await JSONResponse({"detail": detail}, 503, {"Retry-After": RETRY_AFTER})(scope, receive, send)

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # it was logged where it was raised


async def read_body(request: Request, receive: Receive) -> bytes:
    """Return the whole body.

    Raises:
        HTTPException: 413, 408, 415 or 400, as soon as possible.
    """
    path, headers = request.url.path, request.headers
    largest = LARGEST_OF.get(path, LARGEST)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise HTTPException(415, f"the body is compressed ({encoding[:20]!r}); send it as it is")
    if (length := headers.get("content-length", "")).isdecimal() and int(length) > largest:
        raise HTTPException(413, _too_large(largest))
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            more = True
            while more:
                message = await receive()
                more = message.get("more_body", False)
                body += message.get("body", b"")
                if len(body) > largest:
                    raise HTTPException(413, _too_large(largest))
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {PATIENCE:g} s") from None
    if path not in LARGEST_OF and body:
        _check_json(headers.get("content-type", ""), bytes(body))
    return bytes(body)


def depth_of(body: bytes) -> int:
    """Return the greatest depth of nested lists and objects in a JSON text."""
    depth = deepest = 0
    for match in _BRACKETS.finditer(body):
        token = match[0]
        if token in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in b"]}":
            depth -= 1
    return deepest


def _check_json(content_type: str, body: bytes) -> None:
    """Raise unless a body is declared as JSON, which a form of another site cannot do without a preflight request."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the content type must be application/json")
    if depth_of(body) > DEEPEST:
        raise HTTPException(400, f"lists and objects stand in each other deeper than {DEEPEST} levels")


def _too_large(largest: int) -> str:
    return f"That is too large to send: at most {largest / 1e6:g} MB."


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()  # whether the client is gone
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _closing(send: Send) -> Send:
    """Return a ``send`` that closes the connection, since its body was not read."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: list[Any] = [*message.get("headers", ()), (b"connection", b"close")]
            message = {**message, "headers": headers}
        await send(message)

    return closing
