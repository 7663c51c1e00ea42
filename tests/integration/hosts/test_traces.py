"""Traces of a direct host as a user runs it: every process exports to a collector that the test plays."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk, of the extra otel, is not installed")

from serving.hosts.direct import background
from tests.integration.conftest import Server, put, serve, settings_for
from tests.support.chat_archive import register_echo
from tests.support.serving.collector import Collector, attributes, collecting
from tests.support.waiting import wait_until

CALLER = "00f067aa0ba902b7"
PREDICT, CONVERSE = "POST /predictions/{model}", "POST /v1/chat/completions"
STAGES = ("queue", "decode", "predict", "encode")


def trace(number: int) -> dict[str, str]:
    return {"traceparent": f"00-{number:032x}-{CALLER}-01"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with linear and the echo."""
    store = put(tmp_path_factory.mktemp("traces") / "store", "linear")
    register_echo(store, "chat", 4, 12, 0.01)
    return store


@pytest.fixture(scope="module")
def host(models: Path, collector: Collector) -> Iterator[Server]:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=of-the-collector",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "MARLOOP_LOG_SAMPLE": "1",
    }
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name, value in variables.items():
            patch.setenv(name, value)
        with serve(settings_for(models, Path(folder), host="direct")) as running:
            yield running


def of_trace(collector: Collector, number: int) -> dict[str, Any]:
    return {span.name: span for span in collector.spans if int.from_bytes(span.trace_id, "big") == number}


def test_a_request_is_one_trace_below_its_callers_span_and_its_line_of_the_log_has_it(
    host: Server, collector: Collector
) -> None:
    response = host.client.post(f"{host.url}/predictions/linear", json={"x": 6}, headers=trace(7))
    assert response.status_code == 200
    wait_until(lambda: len(of_trace(collector, 7)) == 5)
    spans = of_trace(collector, 7)
    whole = spans[PREDICT]
    assert whole.parent_span_id.hex() == CALLER
    assert {spans[stage].parent_span_id for stage in STAGES} == {whole.span_id}
    assert [spans[stage].start_time_unix_nano for stage in STAGES] == sorted(
        spans[stage].start_time_unix_nano for stage in STAGES
    )
    told = attributes(whole)
    assert (told["marloop.model"], told["marloop.version"], told["http.route"]) == ("linear", "1.0", PREDICT[5:])
    assert told["marloop.request_id"] == response.headers["x-request-id"]
    assert {resource["service.name"] for resource in collector.resources} == {"marloop"}
    assert collector.headers[-1]["x-key"] == "of-the-collector"

    def lines() -> list[dict[str, Any]]:
        logs = [background.log(host.settings, name).read_text() for name in background.parts(host.settings)]
        return [json.loads(line) for log in logs for line in log.splitlines() if told["marloop.request_id"] in line]

    wait_until(lambda: bool(lines()))
    assert {line["trace_id"] for line in lines()} == {f"{7:032x}"}


def test_the_span_of_a_stream_ends_with_it_and_the_models_process_makes_spans_below_it(
    host: Server, collector: Collector
) -> None:
    asked = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "a" * 60}]}
    url, arrivals = f"{host.url}/v1/chat/completions", []
    with httpx.stream("POST", url, json=asked, headers=trace(8), timeout=60, trust_env=False) as answer:
        for _ in answer.iter_raw():
            arrivals.append(time.time_ns())
    wait_until(lambda: len(of_trace(collector, 8)) == 3)
    spans = of_trace(collector, 8)
    whole = spans[CONVERSE]
    assert attributes(whole)["http.response.status_code"] == 200
    assert len(arrivals) > 2
    assert whole.end_time_unix_nano > arrivals[-2]
    assert {spans[stage].parent_span_id for stage in ("decode", "predict")} == {whole.span_id}
    assert attributes(spans["predict"])["marloop.model"] == "chat"
    assert whole.start_time_unix_nano <= spans["decode"].start_time_unix_nano
    assert spans["predict"].end_time_unix_nano <= whole.end_time_unix_nano


def test_a_collector_that_refuses_or_hangs_harms_no_request_and_holds_up_no_end(
    host: Server, collector: Collector
) -> None:
    def ask(number: int) -> None:
        answer = host.client.post(f"{host.url}/predictions/linear", json={"x": 6}, headers=trace(number), timeout=10)
        assert answer.status_code == 200

    for fault in (500, 503, 0):
        collector.status = fault or 200
        if not fault:
            collector.hang.set()
        asked = collector.asked
        for number in range(50):
            ask(1000 + number)
        wait_until(lambda asked=asked: collector.asked > asked)  # type: ignore[misc]
        for number in range(50):
            ask(1000 + number)
    assert background.stop(host.settings) == len(background.parts(host.settings))
    logs = [background.log(host.settings, name).read_text() for name in background.parts(host.settings)]
    assert any("the last spans are lost: the collector did not take them" in log for log in logs)
