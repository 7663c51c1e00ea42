"""Traces as OpenTelemetry's variables ask for them, exported in the background. Where nobody asks, nothing is loaded.

The SDK reads endpoint, headers, sampler, limits and the rest by itself. For OTLP it would take gRPC. Here that is HTTP,
as OpenTelemetry's specification recommends it, and as the extra ``otel`` brings it.
"""

import logging
import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from serving.traces.settings import TraceSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from handlers.batch import Observer
    from serving.hosts.direct.models import Models

logger = logging.getLogger(__name__)
SERVICE = "marloop"  # where OTEL_SERVICE_NAME is unset
FLUSH = 1.0  # s that the end of a worker may wait for the collector
_GROUP = "opentelemetry_traces_exporter"


class Traces:
    """What a worker makes spans with."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE)

    def observer(self) -> "Observer":
        """Return what makes the spans of a model's batches."""
        from serving.traces.spans import StageSpans

        return StageSpans(self._tracer)

    def around(self, application: Any, models: "Models") -> Any:
        """Return an ASGI application in whose spans another one answers."""
        from serving.traces.http import RequestSpans

        return RequestSpans(application, self._tracer, models)

    def interceptor(self, models: "Models") -> Any:
        """Return what makes the spans of calls by gRPC."""
        from serving.traces.grpc import CallSpans

        return CallSpans(self._tracer, models)

    def stop(self, seconds: float = FLUSH) -> None:
        """Export what is left, as far as the collector takes it within some seconds."""
        flushing = threading.Thread(target=self._provider.shutdown, daemon=True, name="flush")
        flushing.start()
        flushing.join(seconds)
        if flushing.is_alive():
            logger.warning("the last spans are lost: the collector did not take them within %.1f s", seconds)


def start_traces(environ: Mapping[str, str]) -> Traces | None:
    """Return what makes spans and exports them, or None: traces never keep a worker from serving.

    Args:
        environ: of this process, which the SDK reads too.
    """
    settings = TraceSettings.from_environment(environ)
    if not settings.asked_for:
        return None
    if reason := missing_exporter(environ):
        logger.warning(reason)
        return None
    try:
        return Traces(_provider(settings.exporters))
    except Exception as error:  # a variable has a wrong value
        logger.error("there are no traces: %s", error)
        return None


def missing_exporter(environ: Mapping[str, str]) -> str:
    """Return a sentence about an exporter that is asked for and not installed; empty where there is none."""
    settings, installed = TraceSettings.from_environment(environ), entry_points(group=_GROUP).names
    name = next((name for name in settings.exporters if name not in installed), "") if settings.asked_for else ""
    what = f"there are no traces, since OpenTelemetry's exporter {name} is not installed"
    way = "pip install -c constraints.txt -e '.[otel]' has otlp_proto_http and console, as has an image of EXTRAS=otel"
    return f"{what}: {way}" if name else ""


def _provider(names: list[str]) -> "TracerProvider":
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # a batch that is lost, not each attempt
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in [next(iter(entry_points(group=_GROUP, name=name))).load()() for name in names]:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
