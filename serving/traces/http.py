"""The span of an HTTP request, by OpenTelemetry's `conventions <https://opentelemetry.io/docs/specs/semconv/http/>`_.

It stands around the whole application. What it hands on has this span's ``traceparent`` in place of the caller's. So
the model's process makes its spans below this one, and logs have its trace.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

from opentelemetry import propagate
from opentelemetry.trace import Span, SpanKind, Tracer

from serving.hosts.direct.http.openapi import READS
from serving.hosts.direct.http.refusals import model_and_version
from serving.hosts.direct.models import Models
from serving.hosts.direct.routes import BY_BODY, behind_version
from serving.security.gate import OPEN
from serving.traces.spans import W3C_HEADERS, fail, headers_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
TEMPLATES = (
    *("/predictions/{model}", "/predictions/{model}/{version}", "/predictions/{model}/{version}/{path}"),
    *("/v1/models/{model}", "/v1/models/{model}:predict", "/v1/models/{model}/versions/{version}:predict"),
    *("/v2/models/{model}", "/v2/models/{model}/ready", "/v2/models/{model}/infer"),
    *("/v2/models/{model}/versions/{version}", "/v2/models/{model}/versions/{version}/ready"),
    *("/v2/models/{model}/versions/{version}/infer", "/openapi.json", "/docs"),
    *BY_BODY,
    *READS,
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_LONGEST = 256  # characters of an attribute that a client chooses
_FIELDS = {"model": "[^/:]+", "version": "[^/:]+", "path": ".+"}
_ROUTES = [(text, re.compile(re.sub(r"{(\w+)}", lambda field: _FIELDS[field[1]], text))) for text in TEMPLATES]


class RequestSpans:
    """Makes a span of each request but those of health, which come every second.

    Args:
        models: the served ones.
    """

    def __init__(self, application: Any, tracer: Tracer, models: Models) -> None:
        self._application, self._tracer, self._models = application, tracer, models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan of the server."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._application(scope, receive, send)
            return
        headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]}
        attributes = _attributes(scope, headers) | named(self._models, scope["path"])
        method, route = attributes["http.request.method"], attributes.get("http.route", "")
        name = f"{'HTTP' if method == '_OTHER' else method} {route}".strip()
        span = self._tracer.start_span(name, propagate.extract(headers), SpanKind.SERVER, attributes)
        own = [(name.encode(), value.encode()) for name, value in headers_of(span).items()]
        scope["headers"] = [pair for pair in scope["headers"] if pair[0].decode("latin-1") not in W3C_HEADERS] + own
        try:
            await self._application(scope, receive, partial(_send, span, send) if span.is_recording() else send)
        except BaseException as error:
            fail(span, type(error).__qualname__)
            raise
        finally:
            span.end()  # behind the last part of a stream


def named(models: Models, path: str) -> dict[str, str]:
    """Return the attributes of the served model and version that a path names."""
    table = models.table
    target = table.targets.get(path) or behind_version(table.targets, path)[0]
    if target:
        return {"marloop.model": target.model.contract.name, "marloop.version": target.model.contract.version}
    model, version = model_and_version(table, path)
    return {f"marloop.{name}": value for name, value in {"model": model, "version": version}.items() if value}


def route_of(path: str) -> str:
    """Return the template of a path; empty where this host has none for it."""
    return next((template for template, route in _ROUTES if route.fullmatch(path)), "")


def _attributes(scope: Scope, headers: Mapping[str, str]) -> dict[str, str | int]:
    """Return what is known at the start. A query may hold a model's input: it is left out."""
    method, path = scope["method"], scope["path"]
    attributes: dict[str, str | int] = {
        "http.request.method": method if method in METHODS else "_OTHER",
        "url.path": path[:_LONGEST],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    if method not in METHODS:
        attributes["http.request.method_original"] = method[:_LONGEST]
    if route := route_of(path):
        attributes["http.route"] = route
    for side in ("server", "client"):
        address, port = scope.get(side) or (None, None)
        attributes |= {f"{side}.address": address} if address else {}
        attributes |= {f"{side}.port": port} if port else {}
    if agent := headers.get("user-agent"):
        attributes["user_agent.original"] = agent[:_LONGEST]
    return attributes


async def _send(span: Span, send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        status = message["status"]
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            fail(span, str(status))
        for name, value in message["headers"]:
            if name == b"x-request-id":
                span.set_attribute("marloop.request_id", value.decode("latin-1"))
    await send(message)
