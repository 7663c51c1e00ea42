"""An application that makes spans, which are kept in memory. It needs the extra ``otel``."""

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving.traces.http import RequestSpans
from serving.traces.spans import StageSpans
from tests.serving.hosts.direct.test_app import World

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=opaque"}


class Traced(World):
    """The application of ``test_app`` with traces."""

    def __init__(self) -> None:
        super().__init__()
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")
        self.observers.append(StageSpans(self.tracer))
        self.within: Any = None  # a middleware between spans and application

    def application(self) -> Any:
        application = super().application()
        inner = self.within(application) if self.within else application
        return RequestSpans(inner, self.tracer, application._models)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """All spans by name, in the order of their ends."""
        return {span.name: span for span in self._exporter.get_finished_spans()}

    @property
    def finished(self) -> tuple[ReadableSpan, ...]:
        return tuple(self._exporter.get_finished_spans())
