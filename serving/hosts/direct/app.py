"""The ASGI application: from an HTTP request to a model's batch, and back. Any ASGI server runs it.

A prediction takes four steps: its path is looked up, its body read, its request handed to the model's batches, its
answer sent. Metadata, health and errors are looked for only when no prediction has the path.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from handlers.http.content_encoding import HEADER
from handlers.http.kserve import EXPLAIN, PATH
from handlers.language.api.routes import AT_BASE
from handlers.message import InputError, Request, Response
from serving.hosts.direct.batches import Overloaded
from serving.hosts.direct.http.bodies import announced_size, inflated, read_request
from serving.hosts.direct.http.embeddings import embed
from serving.hosts.direct.http.responses import awaited_by, not_allowed, refusal, send_response
from serving.hosts.direct.metadata import Metadata
from serving.hosts.direct.models import Models
from serving.hosts.direct.routes import (
    EMBEDDINGS,
    INDEX,
    Refused,
    Target,
    behind_version,
    model_of,
    model_of_body,
    uncounted,
)
from serving.hosts.direct.streaming import Elsewhere, send_stream
from serving.security.gate import ALLOWED

logger = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_TIMEOUT = "x-request-timeout"  # s that a client waits for the turn of its request
_PROTECTED = (PATH, EXPLAIN)  # headers that only a host sets


class Identifiers:
    """Makes the identifiers of requests, which differ between workers too."""

    def __init__(self) -> None:
        self._count, self._prefix = itertools.count(), os.urandom(6).hex()

    def make(self) -> str:
        """Return the next one."""
        return f"{self._prefix}{next(self._count):08x}"


class Application:
    """Answers HTTP requests.

    Args:
        metadata: answers GET requests.
        serving: entered when the server starts, before its port is open, and left after the last answer.
        only: the language model that this process is for; empty for all others.
        elsewhere: returns the process of a language model.
        refused: counts a request that is refused before it is in a batch.
    """

    def __init__(
        self,
        models: Models,
        metadata: Metadata,
        serving: Callable[[], AbstractAsyncContextManager[None]],
        only: str = "",
        elsewhere: Callable[[str], Elsewhere] | None = None,
        refused: Refused = uncounted,
    ) -> None:
        self._models, self._metadata, self._serving = models, metadata, serving
        self._only, self._elsewhere, self._refused = only, elsewhere, refused
        self.identifiers = Identifiers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request, or the lifespan of the server."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise RuntimeError(f"{scope['type']} is not spoken here")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            async with self._serving():
                await send({"type": "lifespan.startup.complete"})
                await receive()  # lifespan.shutdown
        except Exception as error:
            logger.exception("this worker cannot serve")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        ident = self.identifiers.make()
        targets, path = self._models.table.targets, scope["path"]
        target, behind = targets.get(path), ""
        if target is None:
            target, behind = behind_version(targets, path)  # there the model answers a client's GET too
        if target is None and path in AT_BASE and self._only:
            target, behind = targets.get(f"/predictions/{self._only}"), path[1:]
        if target is None and self._models.table.elsewhere and await self._pass_on(scope, receive, send, ident):
            return
        if self._only and target is not None:
            await self._stream(target, behind, scope, receive, send, ident)
            return
        if target is not None and (behind or scope["method"] == "POST"):
            response = await self._predict(target, behind, scope, receive, ident)
        elif path in (EMBEDDINGS, INDEX) and scope["method"] == "POST":
            response = await self._answer_body(scope, receive, ident)
        else:
            response = self._counted(scope, self._read(scope, ident))
        if response is not None:
            await send_response(scope, send, response, ident)

    async def _predict(
        self, target: Target, behind: str, scope: Scope, receive: Receive, ident: str
    ) -> Response | None:
        headers = _headers(scope)
        if target.protocol:
            headers[EXPLAIN] = target.protocol
        if behind:
            headers[PATH] = behind
        model = target.model
        try:
            patience = min(model.patience, float(headers[_TIMEOUT])) if _TIMEOUT in headers else model.patience
        except ValueError:
            patience = model.patience
        try:
            model.batches.admit(announced_size(headers), patience)
            request = await read_request(headers, scope["query_string"], receive, ident)
            if request is None:
                return None
            if HEADER in headers:
                with contextlib.suppress(InputError):  # the model refuses it, and counts that
                    request = await inflated(request)
            return await awaited_by(scope, model.batches.submit(request, patience))
        except (InputError, Overloaded) as fault:
            return self._refuse(scope, fault, headers, ident)
        except asyncio.CancelledError:  # its client is gone, or its model is closed
            return None

    async def _answer_body(self, scope: Scope, receive: Receive, ident: str) -> Response | None:
        """Answer a request whose body says what it is about: a model that embeds, or which versions to list."""
        headers = _headers(scope)
        try:
            request = await read_request(headers, b"", receive, ident)
            if request is None:
                return None
            request = await inflated(request)
            if scope["path"] == INDEX:
                return self._metadata_for(scope).index(request.body)
            return await embed(request, self._models.table.targets, scope.get(ALLOWED), partial(awaited_by, scope))
        except (InputError, Overloaded) as fault:
            return self._refuse(scope, fault, headers, ident)
        except asyncio.CancelledError:
            return None

    async def _stream(
        self, target: Target, behind: str, scope: Scope, receive: Receive, send: Send, ident: str
    ) -> None:
        """Answer for a language model, part by part."""
        headers = _headers(scope)
        if behind:
            headers[PATH] = behind
        try:
            request = await read_request(headers, scope["query_string"], receive, ident)
        except InputError as error:
            await send_response(scope, send, self._refuse(scope, error, headers, ident), ident)
            return
        if request is not None:
            await send_stream(target.model.streams.answer(request), ident, scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, ident: str) -> bool:
        """Hand a request to the process of its language model; return False where it names no such model."""
        path, names, by_body = scope["path"], self._models.table.elsewhere, scope["path"] in AT_BASE
        name, headers = model_of(path), _headers(scope)
        own = f"/v1/models/{name}"  # what is told of a model, or of it with an adapter, and not asked of it
        told = path == own or (scope["method"] != "POST" and path.startswith(f"{own}:"))
        found = scope["method"] == "POST" if by_body else name in names and not told
        if not found:
            return False
        try:
            request = await read_request(headers, b"", receive, ident)
            if request is None:
                return True
            if by_body:
                request = await inflated(request)
                name, version = model_of_body(request.body, names, scope.get(ALLOWED))
                if HEADER in headers:
                    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != HEADER.encode()]
                if version:
                    scope["path"] = f"/predictions/{name}/{version}{path}"
        except InputError as error:
            await send_response(scope, send, self._refuse(scope, error, headers, ident), ident)
            return True
        assert self._elsewhere
        await self._elsewhere(name).forward(scope, request.body, receive, send)
        return True

    def _refuse(self, scope: Scope, fault: InputError | Overloaded, headers: dict[str, str], ident: str) -> Response:
        return self._counted(scope, refusal(fault, scope["path"], Request(b"", headers, {}, ident)))

    def _counted(self, scope: Scope, response: Response) -> Response:
        """Count a response where it is a refusal."""
        if response.error:
            self._refused(scope["path"], response.status, response.error.code)
        return response

    def _read(self, scope: Scope, ident: str) -> Response:
        """Return health, metadata, or an error."""
        path, method, table = scope["path"], scope["method"], self._models.table
        request = Request(b"", _headers(scope), {}, ident)
        if path in table.targets or path == EMBEDDINGS or (path in AT_BASE and table.elsewhere):
            return not_allowed(path, request, "POST")
        metadata = self._metadata_for(scope)
        response = metadata.get(path)
        if response is None:
            return refusal(metadata.unknown(path), path, request)
        if method in ("GET", "HEAD"):
            return response
        return not_allowed(path, request, "GET, POST" if path == INDEX else "GET")

    def _metadata_for(self, scope: Scope) -> Metadata:
        """Return the metadata of the models that a request's key is for."""
        allowed = scope.get(ALLOWED)
        return self._metadata if allowed is None else self._metadata.limited(allowed)


def _headers(scope: Scope) -> dict[str, str]:
    """Return a client's headers, without those that only a host sets."""
    headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]}
    for name in _PROTECTED:
        headers.pop(name, None)
    return headers
