"""Answers in parts: sent as they are made, or passed on from the process that makes them; and these processes."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

import httpx

from handlers.message import JSON, NEXT, STATUS, Response
from serving.hosts.direct.board import Board
from serving.hosts.direct.http.compression import SMALLEST, compressed
from serving.hosts.direct.routes import Refused, uncounted
from serving.hosts.starting import START_TIMEOUT
from serving.supervision.supervisor import SupervisorError

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer", b"expect"})
CONNECT = 5.0  # s


class Elsewhere:
    """A model in another process of this machine.

    Args:
        socket: path of the Unix socket that it listens on.
        refused: counts a request that it cannot take.
    """

    def __init__(self, socket: str, refused: Refused = uncounted) -> None:
        self._refused = refused
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
        self._client = httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(None, connect=CONNECT))
        del self._client.headers["accept-encoding"]  # the client's own, or none

    async def forward(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back as it comes, until a client that leaves ends both."""
        await until_gone(self._forward(scope, body, send), receive)

    async def _forward(self, scope: Scope, body: bytes, send: Send) -> None:
        query = scope["query_string"].decode("latin-1")
        url = f"http://model{quote(scope['path'])}" + (f"?{query}" if query else "")
        headers = [(name, value) for name, value in scope["headers"] if name not in HOP | {b"content-length"}]
        request = self._client.build_request(scope["method"], url, headers=headers, content=body or None)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            self._refused(scope["path"], STATUS["overloaded"], "unavailable")
            await send_unavailable(send, f"its process does not answer: {str(error) or type(error).__name__}")
            return
        try:
            headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in HOP]
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            async for piece in response.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()


class LanguageProcesses:
    """Has the processes of language models started, those that are registered later too.

    Args:
        names: models that were registered when this worker began.
        start: starts the processes that are missing.
    """

    def __init__(self, board: Board, names: Collection[str], start: Callable[[Collection[str]], None]) -> None:
        self._board, self._start = board, start
        self._names, self._started = {*names}, ""
        self._loading: dict[str, float] = {}  # until when a new model may load, s since the machine's start

    def loading(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the models that are new and not served yet, which is no fault for as long as a start may take."""
        now = time.monotonic()
        self._loading |= dict.fromkeys({*names} - self._names, now + START_TIMEOUT)
        self._names = {*names}
        if self._loading:
            gone = self._board.language().keys() | {name for name, end in self._loading.items() if end < now}
            self._loading = {name: end for name, end in self._loading.items() if name in names and name not in gone}
        return (*self._loading,)

    async def follow(self, versions: Mapping[str, Collection[str]]) -> None:
        """Start what is missing whenever versions change; what cannot be started now is tried at the next call."""
        state = repr(sorted((name, *numbers) for name, numbers in versions.items()))
        if not versions or state == self._started:
            return
        try:
            await asyncio.to_thread(self._start, [*versions])
            self._started = state
        except SupervisorError as error:
            logger.info("language models are started later: %s", error)


async def send_stream(answers: AsyncIterator[Response], ident: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer part by part, its status with the first one, until a client that leaves ends it."""
    await until_gone(_send_parts(answers, ident, scope, send), receive)


async def until_gone(sending: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Send until all is sent or the client has left."""
    tasks = [asyncio.create_task(sending), asyncio.create_task(_left(receive))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def send_unavailable(send: Send, message: str) -> None:
    """Answer 503: the model is not reachable now."""
    body = json.dumps({"error": {"message": message, "type": "server_error", "code": "unavailable", "param": None}})
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
    headers.append((b"content-length", b"%d" % len(body.encode())))
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_parts(answers: AsyncIterator[Response], ident: str, scope: Scope, send: Send) -> None:
    begun = False
    async for response in answers:
        more = response.headers.get(NEXT) == "true"
        if not begun:
            if more and not response.body and response.content_type == JSON:  # it comes whole, at the end
                continue
            if not more and len(response.body) >= SMALLEST:
                response = await compressed(response, scope["headers"])
            headers = [(b"content-type", response.content_type.encode()), (b"x-request-id", ident.encode())]
            headers += [(k.lower().encode(), v.encode()) for k, v in response.headers.items() if k != NEXT]
            if not more:
                headers.append((b"content-length", b"%d" % len(response.body)))
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            begun = True
        await send({"type": "http.response.body", "body": response.body, "more_body": more})
