"""A replica of Ray Serve: one version of a model, opened from its archive, whose own handlers answer.

Ray imports this module in a process of each replica. Every archive brings a package ``handlers`` of its own, so nothing
here imports one before the archive's folder is the first place that Python looks at.
"""

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ray import serve
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from serving.hosts.direct.batches import Batches, Overloaded
from serving.hosts.ray.archive_code import (
    core_of,
    handle_of,
    load,
    measure_here,
    messages_of,
    settings_of,
    unpacked,
    with_threads,
)
from serving.hosts.streams import NEXT, Streams

PATH, EXPLAIN = "url_path", "explain"  # headers that only a host sets, as handlers.http.kserve has them
PROBE = "x-marloop-probe"  # marks the front's own question whether this version is ready
CLIENT_ID = "x-marloop-client-request-id"  # in which the front hands on a client's own X-Request-Id
REQUEST_ID = "x-request-id"  # Ray's and the front's, one for both
OWN = {"x-marloop": "1"}  # marks an answer of a model, which the front tells from Ray's own
INLINE = ("onnxruntime", "torch")  # engines that compute in this process; others, as `isolated` ones, have their own
LONGEST = 10.0  # s that a request waits for its turn, where its model's archive says nothing else
ENDED = 499  # the status of a client that is gone, which nobody reads


def application(args: Mapping[str, Any]) -> Any:
    """Return the application of Ray Serve for a version.

    Args:
        args: those of ``serving.hosts.ray.config``: archive, sha256, route, cache and threads.
    """
    deployment: Any = serve.deployment(Replica, name="replica")
    return deployment.bind(dict(args))


class Replica:
    """A version that answers.

    Raises:
        ArchiveError: its archive is not there, or has another SHA-256.
        ValueError: its contract or a setting is wrong.
        RuntimeError: it answers its example otherwise than training did.
    """

    def __init__(self, args: Mapping[str, Any]) -> None:
        folder = unpacked(args["archive"], args["sha256"], Path(args["cache"]))
        config = settings_of(folder)
        measure_here(os.environ)
        self._service = load(folder, with_threads(config, int(args["threads"])))
        self._messages = messages_of()
        self._prefix = f"{args['route']}/"
        core = core_of(self._service)
        self._handle = handle_of(core)
        self._patience = min(float(config.get("responseTimeout") or LONGEST), LONGEST)
        self._streams: Streams | None = None
        task = getattr(getattr(core, "contract", None), "task", "opaque")
        if task == "generation":
            self._streams = Streams(core.handle, getattr(core, "idle", lambda: None))
        # Nobody knows how long a handler from elsewhere takes, or a process that starts again.
        settings = config.get("handler") or {}
        here = settings.get("engine", INLINE[0]) in INLINE and not settings.get("isolated")
        self._inline = here and task != "opaque"
        self._batches: Batches | None = None

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in request.scope["headers"]}
        ident = headers.pop(REQUEST_ID, "")
        for name in (PATH, EXPLAIN):
            headers.pop(name, None)
        if CLIENT_ID in headers:
            headers[REQUEST_ID] = headers.pop(CLIENT_ID)
        path = request.scope["path"]
        if PROBE in headers and path.endswith("/ready"):  # no request of a client, and counted as none
            return Response(headers=OWN)
        if path.startswith(self._prefix) and len(path) > len(self._prefix):
            headers[PATH] = path[len(self._prefix) :]
        try:
            body = await read_body(request, self._messages)
        except ClientDisconnect:
            return Response(status_code=ENDED)
        except self._messages.InputError as error:
            return self._refused(self._messages.Request(b"", headers, {}, ident), error, {"connection": "close"})
        message = self._message(body, headers, ident, request.scope["query_string"])
        if self._streams is not None:
            return await streamed(self._streams.answer(message))
        return await self._answer(message)

    def __del__(self) -> None:
        """End what runs beside this process; Ray calls it when the replica ends."""
        with contextlib.suppress(Exception):
            self._service.close()

    async def _answer(self, message: Any) -> Response:
        if self._batches is None:
            self._batches = Batches(self._handle, asyncio.get_running_loop(), inline=self._inline)
        patience = self._patience
        with contextlib.suppress(KeyError, ValueError):
            patience = min(patience, float(message.headers["x-request-timeout"]))
        try:
            self._batches.admit(len(message.body), patience)
            return whole(await self._batches.submit(message, patience))
        except Overloaded as fault:
            text = f"the requests before this one take {fault.seconds:.2g} s"
            error = self._messages.InputError("overloaded", text, expected="the same request again, later")
            return self._refused(message, error, {"retry-after": str(max(1, math.ceil(fault.seconds)))})

    def _message(self, body: bytes, headers: dict[str, str], ident: str, query: bytes) -> Any:
        """Return the request as the archive's core takes it."""
        if not query:
            return self._messages.Request(body, headers, {}, ident)
        pairs = parse_qsl(str(query, "latin-1"), keep_blank_values=True)
        parts = tuple(self._messages.Part(name, value.encode()) for name, value in pairs)
        return self._messages.Request(body, headers, {part.name: part.body for part in parts}, ident, parts)

    def _refused(self, message: Any, error: Exception, headers: Mapping[str, str]) -> Response:
        as_text = message.headers.get(PATH, "").startswith(("v1/", "v2/"))
        response = self._messages.error_response(error, message, as_text=as_text)
        return whole(response._replace(headers=dict(headers)))


async def read_body(request: Request, messages: Any) -> bytes:
    """Read a request's body.

    Raises:
        InputError: it is larger than a body may be; the class is the archive's.
        ClientDisconnect: the client is gone.
    """
    most, pieces, size = messages.MAX_BODY, [], 0
    announced = request.headers.get("content-length", "")
    if not (announced.isdecimal() and int(announced) > most):
        async for piece in request.stream():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                break
        else:
            return b"".join(pieces)
    fault, limit = f"the body has more than {most} bytes", f"at most {most} bytes"
    raise messages.InputError("too_large", fault, "body", limit)


def whole(response: Any) -> Response:
    """Return a core's response as Starlette's."""
    headers = {name: value for name, value in response.headers.items() if name != NEXT}
    kind = {"content-type": response.content_type}
    return Response(response.body, response.status, {**kind, **OWN, **headers})


async def streamed(parts: AsyncIterator[Any]) -> Response:
    """Return an answer that comes in parts: whole where it has one, else as a stream that ends with its client."""
    async for first in parts:
        more = first.headers.get(NEXT) == "true"
        if not more:
            return whole(first)
        if first.body or first.content_type != "application/json":  # else it comes whole, at the end
            break
    else:
        return Response(status_code=ENDED)
    headers = {name: value for name, value in first.headers.items() if name != NEXT}
    kind = {"content-type": first.content_type}
    return StreamingResponse(rest(first.body, parts), first.status, {**kind, **OWN, **headers})


async def rest(first: bytes, parts: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """Yield the bytes of an answer's parts, and give the request up where nobody reads them."""
    try:
        yield first
        async for part in parts:
            yield part.body
    finally:
        await parts.aclose()  # type: ignore[attr-defined]
