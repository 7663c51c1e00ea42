"""The gate before the direct host: who may ask which models, and how often.

It answers before a body is read. Behind it no request has its key any more.
"""

import asyncio
import collections
import math
import os
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from handlers.message import JSON, STATUS, Request
from serving.hosts.direct.http.responses import refusal as refusal_response
from serving.security.grants import LOOK, Grant, Keys, Refusal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ALLOWED = "marloop.models"  # of a scope: names of the only models that its key is for
OPEN = frozenset({"/health", "/ping", "/v2/health/live", "/v2/health/ready"})
KEY_HEADERS = (b"authorization", b"x-api-key")
_SHOWN = tuple(str(name, "ascii") for name in KEY_HEADERS)


class Gate:
    """Lets requests with a key pass to an application; refuses the others in the form of their protocol.

    Args:
        model_of: returns the model that a path names; empty if it names none.
        registry: of the metric.
        refused: counts a request that may not pass, by its path, status and the error's code.
    """

    def __init__(
        self,
        application: Any,
        known: Keys,
        model_of: Callable[[str], str],
        registry: CollectorRegistry | None = None,
        refused: Callable[[str, int, str], None] = lambda path, status, reason: None,
    ) -> None:
        self._application, self._keys, self._model_of, self._refused = application, known, model_of, refused
        text = "Requests by the name of their key and the class of their status"
        registry = registry or CollectorRegistry()
        self._requests = Counter("marloop_requests_by_key", text, ("key", "code"), registry=registry)
        self._new: collections.Counter[tuple[str, int]] = collections.Counter()  # requests that are not in it yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan of the server."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            self._write_counts()
            return
        if not self._keys.required:
            await self._application(scope, receive, send)
            return
        values, path = _sent(scope), scope["path"]
        is_open = path in OPEN
        try:
            grant = self._check(values, path, is_open)
        except Refusal as refusal:
            if is_open:
                scope[ALLOWED] = frozenset()
                await self._application(scope, receive, send)
                return
            self.count(refusal.name, 400)
            self._refused(path, STATUS[refusal.error.code], refusal.error.code)
            await _refuse(scope, send, refusal)
            return
        scope[ALLOWED] = grant.models
        await self._application(scope, receive, self._counting(send, grant.name))

    def let_pass(
        self, headers: Sequence[tuple[bytes, bytes]], path: str, shown: MutableMapping[str, str]
    ) -> str | None:
        """Return the name of a request's key, empty where it needs none; None where it may not pass.

        Args:
            shown: headers that the model sees; a key is blanked.
        """
        if not self._keys.required:
            return ""
        values = [value for name, value in headers if name in KEY_HEADERS]
        try:
            name = self._check(values, path).name
        except Refusal:
            return None
        shown.update((header, "-") for header in _SHOWN if header in shown)
        return name

    def _check(self, values: Sequence[bytes], path: str, is_open: bool = False) -> Grant:
        """Return what a request's key allows.

        Raises:
            Refusal: it may not pass.
        """
        grant = self._keys.check(values, counts=not is_open)
        if grant.models is not None and not is_open and self._model_of(path) not in ("", *grant.models):
            raise Refusal(grant.name, "forbidden", "this API key is not for this model")
        return grant

    def _counting(self, send: Send, name: str) -> Send:
        def counted(message: MutableMapping[str, Any]) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                self.count(name, message["status"])
            return send(message)

        return counted

    def count(self, name: str, status: int) -> None:
        """Count a request of a key. Each write to the metric, a file, costs time: it gets sums each ``LOOK`` s."""
        if not self._new:
            asyncio.get_running_loop().call_later(LOOK, self._write_counts)
        self._new[name, status // 100] += 1

    def _write_counts(self) -> None:
        for (name, hundreds), count in self._new.items():
            self._requests.labels(name, f"{hundreds}xx").inc(count)
        self._new.clear()


def _sent(scope: Scope) -> list[bytes]:
    """Return the headers that may be keys, and blank them: what is behind sees only that there was one."""
    sent: list[bytes] = []
    for i, (name, value) in enumerate(scope["headers"]):
        if name in KEY_HEADERS:
            if not sent:
                scope["headers"] = [*scope["headers"]]
            sent.append(value)
            scope["headers"][i] = (name, b"-")
    return sent


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answer without a look at the body, whose connection cannot be used again."""
    error, path = refusal.error, scope["path"]
    request = Request(b"", {}, id=os.urandom(10).hex())
    response = refusal_response(error, path, request)
    headers = [
        (b"content-type", JSON.encode()),
        (b"content-length", b"%d" % len(response.body)),
        (b"x-request-id", request.id.encode()),
    ]
    if response.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.seconds:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(refusal.seconds))))
    if scope["method"] not in ("GET", "HEAD"):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
