"""The span of a call by gRPC, by OpenTelemetry's `conventions <https://opentelemetry.io/docs/specs/semconv/rpc/>`_."""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from opentelemetry import propagate
from opentelemetry.trace import Span, SpanKind, Tracer

from serving.hosts.direct.grpc.service import model_path
from serving.hosts.direct.models import Models
from serving.security.grpc_gate import CHECK, OPEN
from serving.traces.http import named
from serving.traces.spans import W3C_HEADERS, fail, headers_of

_OURS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class CallSpans(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Makes a span of each call but those of health; it must stand before other interceptors.

    Args:
        models: the served ones.
    """

    def __init__(self, tracer: Tracer, models: Models) -> None:
        self._tracer, self._models = tracer, models

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Return the method that answers a call, within a span."""
        method = await continuation(details)
        if method is None or method.response_streaming or details.method in (*OPEN, CHECK):
            return method

        async def answer(message: Any, context: Any) -> Any:
            span = self._start(details.method.removeprefix("/"), message, context)
            try:
                response = await method.unary_unary(message, _Call(context, span))
                span.set_attribute("rpc.response.status_code", "OK")
                return response
            except grpc.aio.AbortError:
                raise  # the call's ``abort`` has told
            except BaseException as error:
                fail(span, type(error).__qualname__)
                raise
            finally:
                span.end()

        return grpc.unary_unary_rpc_method_handler(answer, method.request_deserializer, method.response_serializer)

    def _start(self, name: str, message: Any, context: Any) -> Span:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        model = getattr(message, "model_name", "") or getattr(message, "name", "")
        version = getattr(message, "model_version", "") or getattr(message, "version", "")
        attributes = {"rpc.system.name": "grpc", "rpc.method": name}
        attributes |= named(self._models, f"{model_path(model, version)}/infer")
        return self._tracer.start_span(name, propagate.extract(metadata), SpanKind.SERVER, attributes)


class _Call:
    """The context of a call: it has the ``traceparent`` of our span, and tells the span how the call ends."""

    def __init__(self, context: Any, span: Span) -> None:
        self._context, self._span = context, span

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        sent = [pair for pair in self._context.invocation_metadata() or () if pair[0].lower() not in W3C_HEADERS]
        return [*sent, *headers_of(self._span).items()]

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        self._span.set_attribute("rpc.response.status_code", code.name)
        if code.name in _OURS:
            fail(self._span, code.name)
        if ident := dict(trailing_metadata).get("x-request-id"):
            self._span.set_attribute("marloop.request_id", ident)
        await self._context.abort(code, details, trailing_metadata)
        raise RuntimeError("a call that was ended goes on")
