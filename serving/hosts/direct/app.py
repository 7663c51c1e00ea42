"""The ASGI application: from an HTTP request to a model's batch, and back. Any ASGI server runs it.

A prediction takes four steps: its path is looked up, its body read, its request handed to the model's batches, its
answer sent. Metadata, health and errors are looked for only when no prediction has the path.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any

import msgspec

from handlers.http.content_encoding import HEADER, refusal_headers
from handlers.http.kserve import EXPLAIN, PATH
from handlers.language.api.answers import error_body
from handlers.language.api.routes import AT_BASE
from handlers.message import JSON, STATUS, InputError, Request, Response, error_response
from serving.hosts.direct.batches import Overloaded
from serving.hosts.direct.http.bodies import announced_size, inflated, read_request
from serving.hosts.direct.http.compression import SMALLEST, compressed
from serving.hosts.direct.http.embeddings import embed
from serving.hosts.direct.metadata import Metadata
from serving.hosts.direct.models import Models
from serving.hosts.direct.routes import EMBEDDINGS, Refused, Target, behind_version, check_allowed, uncounted
from serving.hosts.direct.streaming import Elsewhere, send_stream
from serving.security.gate import ALLOWED

logger = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_JSON = (b"content-type", JSON.encode())
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
        if path == EMBEDDINGS and scope["method"] == "POST":
            response: Response | None = await self._embed(scope, receive, ident)
        elif target is None or not (behind or scope["method"] == "POST"):
            response = self._other(scope, ident)
        else:
            response = await self._predict(target, behind, scope, receive, ident)
        if response is not None:
            await _send(scope, send, response, ident)

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
            response: Response = await model.batches.submit(request, patience)
            return response
        except Overloaded as overload:
            self._refused(scope["path"], STATUS["overloaded"], "overloaded")
            return overloaded_response(Request(b"", headers, {}, ident), overload, bool(target.protocol))
        except InputError as error:
            self._count(scope, error)
            return _unread(error, headers, ident, bool(target.protocol))
        except asyncio.CancelledError:
            return None

    async def _embed(self, scope: Scope, receive: Receive, ident: str) -> Response | None:
        """Answer a request for embeddings by the model that its body names."""
        headers = _headers(scope)
        try:
            request = await read_request(headers, b"", receive, ident)
            if request is None:
                return None
            return await embed(await inflated(request), self._models.table.targets, scope.get(ALLOWED))
        except Overloaded as overload:
            self._refused(scope["path"], STATUS["overloaded"], "overloaded")
            refusal = overloaded_response(Request(b"", headers, {}, ident), overload, False)
            return refusal._replace(body=error_body(refusal.error)) if refusal.error else refusal
        except InputError as error:
            self._count(scope, error)
            return Response(STATUS[error.code], error_body(error), headers=refusal_headers(error))
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
            self._count(scope, error)
            await _send(scope, send, _unread(error, headers, ident), ident)
            return
        if request is not None:
            await send_stream(target.model.streams.answer(request), ident, scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, ident: str) -> bool:
        """Hand a request to the process of its language model; return False where it names no such model."""
        path, names = scope["path"], self._models.table.elsewhere
        name, headers = model_of(path), _headers(scope)
        if path not in AT_BASE and (name not in names or path == f"/v1/models/{name}"):
            return False
        try:
            request = await read_request(headers, b"", receive, ident)
        except InputError as error:
            self._count(scope, error)
            await _send(scope, send, _unread(error, headers, ident), ident)
            return True
        if request is None:
            return True
        if path in AT_BASE:
            try:
                request = await inflated(request)
                name, version = _find_model(request.body, names, scope.get(ALLOWED))
            except InputError as error:
                self._count(scope, error)
                refusal = Response(STATUS[error.code], error_body(error), headers=refusal_headers(error))
                await _send(scope, send, refusal, ident)
                return True
            if HEADER in headers:
                scope["headers"] = [pair for pair in scope["headers"] if pair[0] != HEADER.encode()]
            if version:
                scope["path"] = f"/predictions/{name}/{version}{path}"
        assert self._elsewhere
        await self._elsewhere(name).forward(scope, request.body, receive, send)
        return True

    def _count(self, scope: Scope, error: InputError) -> None:
        self._refused(scope["path"], STATUS[error.code], error.code)

    def _other(self, scope: Scope, ident: str) -> Response:
        """Answer a request that is no prediction, and count a refusal."""
        response = self._read(scope, ident)
        if response.error:
            self._refused(scope["path"], response.status, response.error.code)
        return response

    def _read(self, scope: Scope, ident: str) -> Response:
        """Return health, metadata, or an error."""
        path, method, table = scope["path"], scope["method"], self._models.table
        request = Request(b"", _headers(scope), {}, ident)
        if path in table.targets:
            return _not_allowed(request, path, "POST")
        allowed = scope.get(ALLOWED)
        metadata = self._metadata if allowed is None else self._metadata.limited(allowed)
        response = metadata.get(path)
        if response is None:
            return error_response(metadata.unknown(path), request, as_text=path.startswith(("/v1", "/v2")))
        return response if method in ("GET", "HEAD") else _not_allowed(request, path, "GET")


def _headers(scope: Scope) -> dict[str, str]:
    """Return a client's headers, without those that only a host sets."""
    headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]}
    for name in _PROTECTED:
        headers.pop(name, None)
    return headers


def model_of(path: str) -> str:
    """Return the model that a path names; empty if it names none."""
    parts = path.split("/")
    if len(parts) > 2 and parts[1] == "predictions":
        return parts[2]
    return parts[3].partition(":")[0] if len(parts) > 3 and parts[1:3] in (["v1", "models"], ["v2", "models"]) else ""


def _find_model(body: bytes, models: Mapping[str, Collection[str]], allowed: Collection[str] | None) -> tuple[str, str]:
    """Return the model that a request of OpenAI's API names, and the version, which may be empty.

    Raises:
        InputError: it names none of these, or one that its key is not for.
    """
    try:
        model = str(msgspec.json.decode(body, type=dict[str, Any]).get("model", ""))
    except msgspec.DecodeError:
        model = ""
    name, _, version = model.partition("@")
    check_allowed(name, allowed)
    if name not in models or (version and version not in models[name]):
        known = sorted(known for known in models if allowed is None or known in allowed)
        raise InputError("model_not_found", f"there is no language model {model!r} here", "model", ", ".join(known))
    return name, version


def _unread(error: InputError, headers: dict[str, str], ident: str, as_text: bool = False) -> Response:
    """Refuse a body that was not read to its end, and close its connection, which cannot be used again."""
    refused = error_response(error, Request(b"", headers, {}, ident), as_text=as_text)
    return refused._replace(headers={"Connection": "close"})


def _not_allowed(request: Request, path: str, allowed: str) -> Response:
    error = InputError("not_found", f"{path} takes {allowed}", "method", allowed)
    response = error_response(error, request, as_text=path.startswith(("/v1", "/v2")))
    return response._replace(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": allowed})


def overloaded_response(request: Request, overload: Overloaded, as_text: bool) -> Response:
    """Tell a client after how many seconds its request would have its turn."""
    what = f"the requests before this one take {overload.seconds:.2g} s"
    error = InputError("overloaded", what, expected="the same request again, later")
    seconds = str(max(1, math.ceil(overload.seconds)))
    return error_response(error, request, as_text=as_text)._replace(headers={"Retry-After": seconds})


async def _send(scope: Scope, send: Send, response: Response, ident: str) -> None:
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
