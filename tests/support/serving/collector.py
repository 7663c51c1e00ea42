"""An OpenTelemetry collector: it takes spans by OTLP over HTTP, and misbehaves as it is told."""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.serving.threaded import QuietHandler, threaded


class Collector:
    """What came, and what is answered.

    Attributes:
        status: of every answer.
        hang: while it is set, nothing is answered.
        asked: how many requests came.
        resources: attributes of each request's resource.
        spans: all of them, as protobuf.
        headers: of the requests, names in lower case.
    """

    def __init__(self) -> None:
        self.url, self.status, self.asked = "", 200, 0
        self.hang, self.released = threading.Event(), threading.Event()
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Any] = []
        self.headers: list[dict[str, str]] = []

    def take(self, body: bytes) -> None:
        """Keep the spans of a request."""
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes(of_resource.resource))
            self.spans += [span for scope in of_resource.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[Any]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in of.attributes}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of this machine until the block ends."""
    collector = Collector()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.asked += 1
            if collector.hang.is_set():
                collector.released.wait(60)
                self.close_connection = True
                return
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            if collector.status == 200 and self.path == "/v1/traces":
                collector.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with threaded(Handler, collector.released) as address:
        collector.url = address
        yield collector
