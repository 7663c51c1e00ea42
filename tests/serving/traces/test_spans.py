"""The stages of a batch: which of them a request has, when they were, and how its requests are linked."""

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk, of the extra otel, is not installed")

from opentelemetry.sdk.trace import ReadableSpan

from handlers.batch import Accepted, Batch
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import InputError, Request, Response
from tests.serving.traces.traced import Traced
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, MAX_ROWS, Formula

NOW = 1_800_000_000.0


def request(number: int, x: object = 6, sampled: bool = True) -> Request:
    """A request whose span, and its trace, have a number."""
    return wire.request({"x": x}, traceparent=f"00-{number:032x}-{number:016x}-0{int(sampled)}")


def spans_of(traced: Traced, requests: list[Request], waited: list[float] | None = None) -> list[ReadableSpan]:
    codec = Codec(LINE, MAX_ROWS)
    ModelHandler(LINE, Formula(LINE), codec, traced.observers, lambda: NOW).handle(requests, waited or ())
    return list(traced.finished)


def stages(spans: list[ReadableSpan], number: int) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans if span.context.trace_id == number}


def test_the_run_of_a_batch_links_the_first_request_with_the_others(traced: Traced) -> None:
    spans = spans_of(traced, [request(1), request(2, sampled=False), wire.request({"x": 1}), request(3), request(4)])
    assert {span.context.trace_id for span in spans} == {1, 3, 4}
    first, *others = (stages(spans, number)["predict"] for number in (1, 3, 4))
    assert [(link.context.trace_id, link.context.span_id) for link in first.links] == [(3, 3), (4, 4)]
    for other in others:
        (link,) = other.links
        assert (link.context.trace_id, link.context.span_id) == (1, first.context.span_id)
    assert not any(span.links for span in spans if span.name != "predict")
    assert {(span.attributes or {})["marloop.batch.requests"] for span in spans} == {5}


def test_a_request_alone_has_no_link(traced: Traced) -> None:
    assert not any(span.links for span in spans_of(traced, [request(1)]))


def test_a_request_that_was_refused_has_no_part_in_the_run(traced: Traced) -> None:
    spans = spans_of(traced, [request(1, "six"), request(2)])
    assert list(stages(spans, 1)) == ["decode"]
    assert list(stages(spans, 2)) == ["decode", "predict", "encode"]
    assert not stages(spans, 2)["predict"].links


def test_each_request_has_a_wait_of_its_own_before_the_batch(traced: Traced) -> None:
    spans = spans_of(traced, [request(1), request(2)], [0.5, 0.0])
    for number, seconds in ((1, 0.5), (2, 0.0)):
        queue = stages(spans, number)["queue"]
        assert queue.start_time is not None
        assert queue.end_time == NOW * 1e9
        assert queue.end_time - queue.start_time == seconds * 1e9


def test_a_language_models_request_is_decoded_and_answered_in_one(traced: Traced) -> None:
    batch = Batch(LINE, [request(1)], NOW, {0: Accepted("chat", 1)}, responses=[Response(200, b"")])
    batch.seconds = {"decode": 0.25, "predict": 2.0, "encode": 0.0}
    traced.observers[0](batch)
    assert list(traced.spans) == ["decode", "predict"]
    assert [(span.end_time or 0) / 1e9 - NOW for span in traced.finished] == pytest.approx([0.25, 2.25])


def test_a_failure_without_an_exception_is_named_by_its_code(traced: Traced) -> None:
    error = InputError("overloaded", "…")
    batch = Batch(LINE, [request(1)], NOW, responses=[Response(503, b"", error=error)], waited=[0.5])
    traced.observers[0](batch)
    (span,) = traced.finished
    assert (span.name, (span.attributes or {})["error.type"]) == ("queue", "overloaded")
