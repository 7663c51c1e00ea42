"""The spans of a request's stages: queue, decode, predict and encode, below the span of the whole request.

They are made when a batch is answered, from the times that it has anyway. The header ``traceparent`` of a request names
its span, in whatever process that was made: the host writes it in place of the caller's.

A batch has one run, which its requests share. Each trace has a predict span of its own, so that it can be read alone.
That of the first request has links to the others' requests, which is how `OpenTelemetry
<https://opentelemetry.io/docs/specs/otel/overview/#links-between-spans>`_ has a batch. Those of the others have a link
to the first one's. A span for the batch in a trace of its own would be sampled apart from its requests.
"""

from collections.abc import Iterator, Mapping

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from handlers.batch import Batch
from handlers.message import Response

W3C = TraceContextTextMapPropagator()
W3C_HEADERS = W3C.fields  # traceparent and tracestate
_NANO = 1_000_000_000


class StageSpans:
    """Makes the spans of a batch; an observer."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __call__(self, batch: Batch) -> None:
        """Make the spans of those requests whose traces are recorded."""
        parents = {i: context for i, request in enumerate(batch.requests) if (context := _sampled(request.headers))}
        run = [_span_context(context) for i, context in parents.items() if i in batch.accepted]
        first: SpanContext | None = None  # the predict span of the first one
        for i, parent in parents.items():
            times = list(_times(batch, i))
            for stage, start, end in times:
                links = [] if stage != "predict" else [Link(first)] if first else [Link(other) for other in run[1:]]
                span = self._tracer.start_span(stage, parent, links=links, start_time=start)
                _describe(span, batch, i)
                if stage == "predict":
                    first = first or span.get_span_context()
                if end == times[-1][2] and batch.responses[i].status >= 500:
                    fail(span, _reason(batch.responses[i]))
                span.end(end)


def headers_of(span: Span) -> dict[str, str]:
    """Return the headers by which others make spans below this one."""
    headers: dict[str, str] = {}
    W3C.inject(headers, set_span_in_context(span, Context()))
    return headers


def fail(span: Span, reason: str) -> None:
    """Mark a span as failed by our fault. An error's text may quote the input: it is left out."""
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", reason)


def _sampled(headers: Mapping[str, str]) -> Context | None:
    """Return the context of a request's span; None if it has none, or its trace is not recorded."""
    if "traceparent" not in headers:
        return None
    context = W3C.extract(headers)
    return context if _span_context(context).trace_flags.sampled else None


def _span_context(context: Context) -> SpanContext:
    return get_current_span(context).get_span_context()


def _times(batch: Batch, i: int) -> Iterator[tuple[str, int, int]]:
    """Yield the stages that a request reached with their start and end, ns since the epoch.

    They are the batch's, and where it ran in several pieces each is drawn as one.
    """
    now = round(batch.received * _NANO)
    if batch.waited:
        yield "queue", now - round(batch.waited[i] * _NANO), now
    reached = 3 if i in batch.answered else 2 if i in batch.accepted else 1
    for stage, seconds in list(batch.seconds.items())[:reached]:
        if seconds:
            start, now = now, now + round(seconds * _NANO)
            yield stage, start, now


def _describe(span: Span, batch: Batch, i: int) -> None:
    """Set the attributes of a stage: names and numbers alone, nothing of a body or of a header but its id."""
    span.set_attributes(
        {
            "marloop.model": batch.contract.name,
            "marloop.version": batch.contract.version,
            "marloop.request_id": batch.requests[i].id,
            "marloop.batch.requests": len(batch.requests),
            "marloop.batch.rows": batch.rows,
        }
    )


def _reason(response: Response) -> str:
    if response.cause:
        return type(response.cause).__qualname__
    return response.error.code if response.error else str(response.status)
