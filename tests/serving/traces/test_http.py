"""The span of an HTTP request: its tree, its attributes by OpenTelemetry's conventions, and what it never has."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk, of the extra otel, is not installed")

from opentelemetry.trace import SpanKind, StatusCode

from handlers.contract import Array
from serving.hosts.direct.http.openapi import describe
from serving.traces.http import route_of
from tests.serving.hosts.direct.test_app import BASE, ROW, V2_BODY
from tests.serving.traces.traced import CALLER, PARENT, TRACE, Traced
from tests.support.chat_archive import contract, echoed
from tests.support.handlers.models import LINE

PREDICT = "POST /predictions/{model}"
SECRET = "0123456789abcdef-secret"


class Failing:
    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        raise ArithmeticError(f"{SECRET} out of order")


def test_a_request_is_a_span_below_the_callers_with_its_stages_below(traced: Traced) -> None:
    response = traced.ask("POST", "/predictions/line", json=ROW, headers=PARENT | {"user-agent": "curl/8"})
    spans = traced.spans
    assert list(spans) == ["queue", "decode", "predict", "encode", PREDICT]
    whole = spans.pop(PREDICT)
    assert whole.kind == SpanKind.SERVER
    assert whole.parent is not None
    assert (f"{whole.parent.span_id:016x}", whole.parent.is_remote) == (CALLER, True)
    assert f"{whole.context.trace_id:032x}" == TRACE
    assert whole.context.trace_state.to_header() == "vendor=opaque"
    assert whole.status.status_code == StatusCode.UNSET
    assert dict(whole.attributes or {}) == {
        "http.request.method": "POST",
        "url.path": "/predictions/line",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.route": "/predictions/{model}",
        "server.address": "model",
        "client.address": "127.0.0.1",
        "client.port": 123,
        "user_agent.original": "curl/8",
        "marloop.model": "line",
        "marloop.version": "1.2",
        "http.response.status_code": 200,
        "marloop.request_id": response.headers["x-request-id"],
    }
    ends = [0]
    for span in spans.values():
        assert span.parent is not None
        assert (span.parent.span_id, span.context.trace_id) == (whole.context.span_id, whole.context.trace_id)
        assert span.kind == SpanKind.INTERNAL
        assert dict(span.attributes or {}) == {
            "marloop.model": "line",
            "marloop.version": "1.2",
            "marloop.request_id": response.headers["x-request-id"],
            "marloop.batch.requests": 1,
            "marloop.batch.rows": 1,
        }
        assert span.start_time is not None
        assert span.end_time is not None
        assert ends[-1] <= span.start_time <= span.end_time
        ends.append(span.end_time)


@pytest.mark.parametrize("sent", [{}, {"traceparent": "00-nonsense"}, {"traceparent": f"00-{'0' * 32}-{CALLER}-01"}])
def test_without_a_callers_span_a_request_begins_a_trace(traced: Traced, sent: dict[str, str]) -> None:
    traced.ask("POST", "/predictions/line", json=ROW, headers=sent)
    assert traced.spans[PREDICT].parent is None
    assert len({span.context.trace_id for span in traced.finished}) == 1


def test_a_caller_that_records_nothing_is_followed(traced: Traced) -> None:
    sent = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
    assert traced.ask("POST", "/predictions/line", json=ROW, headers=sent).status_code == 200
    assert traced.finished == ()


def test_a_mistake_of_the_client_is_no_error_of_the_server(traced: Traced) -> None:
    error = traced.ask("POST", "/predictions/line", json={"x": "six"}, headers=PARENT).json()["error"]
    assert list(traced.spans) == ["queue", "decode", PREDICT]
    assert {span.status.status_code for span in traced.finished} == {StatusCode.UNSET}
    assert (traced.spans[PREDICT].attributes or {})["http.response.status_code"] == 400
    own = traced.spans[PREDICT].context
    assert error["traceparent"] == f"00-{TRACE}-{own.span_id:016x}-01"


def test_a_failure_of_ours_marks_the_request_and_its_stage(traced: Traced) -> None:
    traced.engine = Failing()
    assert traced.ask("POST", "/predictions/line", json=ROW).status_code == 500
    marked = {span.name: (span.attributes or {}).get("error.type") for span in traced.finished}
    assert marked == {"queue": None, "decode": None, "predict": "ArithmeticError", PREDICT: "500"}
    failed = [span.name for span in traced.finished if span.status.status_code == StatusCode.ERROR]
    assert failed == ["predict", PREDICT]


def test_a_failure_of_the_application_itself_is_told_and_passed_on(traced: Traced) -> None:
    def broken(application: Any) -> Any:
        async def fail(scope: Any, receive: Any, send: Any) -> None:
            raise LookupError(SECRET)

        return fail

    traced.within = broken
    with pytest.raises(LookupError):
        traced.ask("POST", "/predictions/line", json=ROW)
    (span,) = traced.finished
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "LookupError")
    assert SECRET not in span.to_json()


def test_no_span_has_a_key_a_body_or_a_query(traced: Traced) -> None:
    headers = {"authorization": f"Bearer {SECRET}", "x-api-key": SECRET, "cookie": SECRET}
    for body in ({"x": SECRET}, {SECRET: 1}, ROW):
        traced.ask("POST", f"/predictions/line?key={SECRET}", json=body, headers=headers)
    traced.engine = Failing()
    traced.ask("POST", "/predictions/line", json=ROW, headers=headers)
    assert len(traced.finished) > 10
    for span in traced.finished:
        assert SECRET not in span.to_json()


def test_health_which_is_asked_every_second_makes_no_span(traced: Traced) -> None:
    for path in ("/ping", "/v2/health/live", "/v2/health/ready"):
        assert traced.ask("GET", path).status_code == 200
    assert traced.finished == ()


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/v2/models/line", "GET /v2/models/{model}"),
        ("POST", "/predictions/line/1.3", "POST /predictions/{model}/{version}"),
        ("POST", "/v2/models/line/versions/1.3/infer", "POST /v2/models/{model}/versions/{version}/infer"),
        ("POST", "/v1/models/nobody:predict", "POST /v1/models/{model}:predict"),
        ("GET", "/nothing/here", "GET"),
        ("BREW", "/predictions/line", "HTTP /predictions/{model}"),
    ],
)
def test_a_name_has_the_route_and_never_what_a_client_chose(traced: Traced, method: str, path: str, name: str) -> None:
    traced.ask(method, path, json=V2_BODY)
    assert list(traced.spans)[-1] == name


def test_every_route_of_the_description_has_a_template() -> None:
    language = {"chat": {"1.0": contract("chat", echoed("Hello"))}}
    for path in describe({"line": {"1.2": LINE}}, {"line": "1.2"}, language)["paths"]:
        assert route_of(path), path


def test_requests_of_one_batch_have_a_trace_each(traced: Traced) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(traced.application())
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            await asyncio.gather(*(client.post("/predictions/line", json=ROW) for _ in range(3)))

    asyncio.run(run())
    runs = [span for span in traced.finished if span.name == "predict"]
    assert {(span.attributes or {})["marloop.batch.requests"] for span in runs} == {3}
    assert len({span.context.trace_id for span in runs}) == 3
