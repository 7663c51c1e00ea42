"""The gRPC server of a worker: each call is what a route of HTTP is, on the same models and batches."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

import grpc
from google.protobuf import json_format

from handlers.http.content_encoding import HEADER
from handlers.http.kserve import EXPLAIN, PATH, V2
from handlers.message import MAX_BODY, STATUS, InputError, Request, Response
from serving.hosts.direct.batches import Overloaded
from serving.hosts.direct.grpc.messages import CLASSES
from serving.hosts.direct.grpc.tensors import to_message, to_request
from serving.hosts.direct.http.responses import refusal
from serving.hosts.direct.metadata import Metadata
from serving.hosts.direct.models import Models
from serving.hosts.direct.routes import Refused, uncounted
from serving.security.gate import KEY_HEADERS

INFERENCE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
SERVING, NOT_SERVING = 1, 2  # of the health protocol
LOOK = 0.5  # s between two looks at the health that is watched
GRACE = 1.0  # s that calls may take which were taken before the end
_OPTIONS = (
    ("grpc.so_reuseport", 1),  # each worker listens on the same port
    ("grpc.max_receive_message_length", MAX_BODY),
    ("grpc.max_send_message_length", -1),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
)
_CODES = {404: grpc.StatusCode.NOT_FOUND, 500: grpc.StatusCode.INTERNAL, 501: grpc.StatusCode.UNIMPLEMENTED}
_READ = {  # calls that are a GET of HTTP, by its path
    "ServerLive": "/v2/health/live",
    "ServerReady": "/v2/health/ready",
    "ServerMetadata": "/v2",
    "ModelReady": "/ready",
    "ModelMetadata": "",
}


class InferenceService:
    """Answers the calls of both services.

    Args:
        health: returns the faults by model or worker; empty where all is well.
        refused: counts a request that is refused before it is in a batch.
    """

    def __init__(self, models: Models, health: Callable[[], Mapping[str, str]], refused: Refused = uncounted) -> None:
        self._models, self._health, self._metadata = models, health, Metadata(models, health)
        self._refused = refused
        self._ids, self._prefix = itertools.count(), os.urandom(6).hex()

    def handlers(self) -> list[Any]:
        """Return the handlers of both services for gRPC's server."""
        calls = {name: _unary(name, self._reader(name, path)) for name, path in _READ.items()}
        calls["ModelInfer"] = _unary("ModelInfer", self.infer)
        check, answer = CLASSES["HealthCheckRequest"].FromString, CLASSES["HealthCheckResponse"].SerializeToString
        health = {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, check, answer),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, check, answer),
        }
        return [
            grpc.method_handlers_generic_handler(INFERENCE, calls),
            grpc.method_handlers_generic_handler(HEALTH, health),
        ]

    async def infer(self, message: Any, context: Any) -> Any:
        """Answer a ``ModelInfer`` in a batch, together with requests of HTTP."""
        ident = f"{self._prefix}{next(self._ids):08x}"
        path = f"{model_path(message.model_name, message.model_version)}/infer"
        target = self._models.table.targets.get(path)
        if target is None:
            error = self._unknown(message.model_name, path)
            self._refused(path, STATUS[error.code], error.code)
            await _refuse(context, error, ident)
        model, remaining = target.model, context.time_remaining()
        patience = model.patience if remaining is None else min(model.patience, remaining)
        headers = _headers(context) | {EXPLAIN: V2}
        try:
            request = to_request(message, headers, ident)
            model.batches.admit(len(request.body), patience)
            response: Response = await model.batches.submit(request, patience)
        except InputError as error:
            self._refused(path, STATUS[error.code], error.code)
            await _refuse(context, error, ident)
        except Overloaded as overload:
            self._refused(path, STATUS["overloaded"], "overloaded")
            response = refusal(overload, path, Request(b"", headers, {}, ident))
        if response.error:
            await _abort(context, response, response.error, ident)
        return to_message(response, typed=not message.raw_input_contents)

    async def check(self, message: Any, context: Any) -> Any:
        """Answer whether the server, or the model that is named in place of a service, is ready."""
        status = self._status(message.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service or model {message.service!r} here")
        return CLASSES["HealthCheckResponse"](status=status)

    async def watch(self, message: Any, context: Any) -> AsyncIterator[Any]:
        """Tell what ``check`` answers, now and whenever it changes; of an unknown service 3."""
        last = 0
        while True:
            status = self._status(message.service) or 3
            if status != last:
                yield CLASSES["HealthCheckResponse"](status=status)
                last = status
            await asyncio.sleep(LOOK)

    def _status(self, service: str) -> int | None:
        faults = self._health()
        if service in ("", INFERENCE, HEALTH):
            return NOT_SERVING if faults else SERVING
        if service not in self._models.table.defaults:
            return None
        return NOT_SERVING if service in faults else SERVING

    def _reader(self, name: str, path: str) -> Callable[[Any, Any], Any]:
        """Return the method that answers a call with the body of a GET."""
        of_model, result = name.startswith("Model"), CLASSES[f"{name}Response"]

        async def read(message: Any, context: Any) -> Any:
            url = model_path(message.name, message.version) + path if of_model else path
            response = self._metadata.get(url)
            if response is None and name == "ModelReady":
                return result(ready=False)
            if response is None:
                await _refuse(context, self._unknown(message.name, url))
            return json_format.Parse(response.body, result(), ignore_unknown_fields=True)

        return read

    def _unknown(self, model: str, path: str) -> InputError:
        if model in self._models.table.elsewhere:
            return InputError("not_supported", f"{model} is a language model", "model_name", "OpenAI's API over HTTP")
        return self._metadata.unknown(path)


@contextlib.asynccontextmanager
async def beside_http(
    serving: Callable[[], AbstractAsyncContextManager[None]],
    service: InferenceService,
    address: str,
    port: int,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> AsyncIterator[None]:
    """Serve gRPC from when the models answer until HTTP has answered its last request.

    Args:
        serving: entered first: the models answer in it.
        interceptors: let calls with a key pass.

    Raises:
        RuntimeError: it cannot listen on the port.
    """
    async with serving():
        server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS)
        server.add_generic_rpc_handlers(service.handlers())
        server.add_insecure_port(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(GRACE)


def _unary(name: str, method: Callable[[Any, Any], Any]) -> Any:
    request, response = CLASSES[f"{name}Request"], CLASSES[f"{name}Response"]
    return grpc.unary_unary_rpc_method_handler(method, request.FromString, response.SerializeToString)


def model_path(name: str, version: str) -> str:
    """Return the path of a model's metadata over HTTP."""
    return f"/v2/models/{name}" + (f"/versions/{version}" if version else "")


def _headers(context: Any) -> dict[str, str]:
    """Return what a client sent beside its message, as HTTP has it; binary values, and what hosts set, are left out.

    As behind HTTP's gate, a key is only told to be there.
    """
    pairs = ((name.lower(), value) for name, value in context.invocation_metadata() or ())
    texts = {name: value for name, value in pairs if isinstance(value, str) and name not in (PATH, HEADER)}
    return {name: "-" if name.encode() in KEY_HEADERS else value for name, value in texts.items()}


async def _refuse(context: Any, error: InputError, ident: str = "") -> NoReturn:
    await _abort(context, Response(STATUS[error.code], b""), error, ident)


async def _abort(context: Any, response: Response, error: InputError, ident: str) -> NoReturn:
    """End a call with the text that HTTP has for an error, and with gRPC's status for it."""
    code = _CODES.get(response.status, grpc.StatusCode.INVALID_ARGUMENT)
    if response.status == 503:
        overloaded = error.code == "overloaded"
        code = grpc.StatusCode.RESOURCE_EXHAUSTED if overloaded else grpc.StatusCode.UNAVAILABLE
    trailing = [("x-request-id", ident)] if ident else []
    if seconds := response.headers.get("Retry-After"):
        trailing += [("retry-after", seconds), ("grpc-retry-pushback-ms", f"{seconds}000")]
    await context.abort(code, str(error), tuple(trailing))
    raise RuntimeError("a call that was ended goes on")
