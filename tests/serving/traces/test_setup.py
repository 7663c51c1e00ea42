"""Traces as the standard variables ask for them, and a collector that harms nobody, whatever it does."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk, of the extra otel, is not installed")

from serving.ports import free_ports
from serving.settings import ROOT
from serving.traces import setup
from serving.traces.settings import TraceSettings
from serving.traces.setup import Traces, missing_exporter, start_traces
from tests.support.serving.collector import Collector, collecting
from tests.support.waiting import wait_until

OTLP = {"OTEL_TRACES_EXPORTER": "otlp"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


def started(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Traces | None:
    """Traces of an environment with these variables of OpenTelemetry."""
    environ = {f"OTEL_{name}": value for name, value in variables.items()}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return start_traces(environ)


def make_spans(traces: Traces | None, count: int = 1) -> Traces:
    assert traces
    for _ in range(count):
        traces._tracer.start_span("made").end()
    return traces


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "flights"}, False),
        ({"OTEL_TRACES_EXPORTER": ""}, False),
        (OTLP, True),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        (OTLP | {"OTEL_SDK_DISABLED": "true"}, False),
        (OTLP | {"OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_an_exporter_or_an_endpoint_asks_for_traces(environ: dict[str, str], expected: bool) -> None:
    assert TraceSettings.from_environment(environ).asked_for is expected
    assert missing_exporter(environ) == ""


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["otlp_proto_http"]),
        (OTLP | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ["otlp_proto_http"]),
        (OTLP | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            ["otlp_proto_http"],
        ),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp_proto_http"]),
    ],
)
def test_otlp_is_by_http_unless_its_protocol_is_named(environ: dict[str, str], names: list[str]) -> None:
    assert TraceSettings.from_environment(environ).exporters == names


def test_without_the_extra_one_sentence_names_the_command_and_the_worker_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Nothing(tuple[()]):
        names: frozenset[str] = frozenset()

    monkeypatch.setattr(setup, "entry_points", lambda group: Nothing())
    assert start_traces(OTLP) is None
    (record,) = caplog.records
    assert "pip install -c constraints.txt -e '.[otel]'" in record.message
    assert "EXTRAS=otel" in record.message
    assert record.message == missing_exporter(OTLP)
    assert missing_exporter({}) == ""


def test_a_worker_loads_nothing_of_it_where_nobody_asks() -> None:
    code = """
import sys, serving.hosts.direct.worker
from serving.traces.setup import start_traces
assert start_traces({}) is None
sys.exit(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_spans_reach_the_collector_as_its_variables_say(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    headers = {"EXPORTER_OTLP_HEADERS": "x-tenant=seven", "EXPORTER_OTLP_COMPRESSION": "gzip"}
    resource = {"RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    make_spans(started(monkeypatch, EXPORTER_OTLP_ENDPOINT=collector.url, **headers, **resource), 3).stop(10)
    assert len(collector.named("made")) == 3
    assert collector.headers[0]["x-tenant"] == "seven"
    assert collector.resources[0]["service.name"] == "marloop"
    assert collector.resources[0]["deployment.environment.name"] == "test"


def test_the_service_has_the_name_that_it_is_given(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    make_spans(started(monkeypatch, EXPORTER_OTLP_ENDPOINT=collector.url, SERVICE_NAME="flights")).stop(10)
    assert collector.resources[0]["service.name"] == "flights"


def test_the_sampler_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    variables = {"TRACES_SAMPLER": "parentbased_traceidratio", "TRACES_SAMPLER_ARG": "0"}
    make_spans(started(monkeypatch, EXPORTER_OTLP_ENDPOINT=collector.url, **variables), 20).stop(10)
    assert collector.spans == []


def test_a_wrong_value_is_told_and_the_worker_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert started(monkeypatch, TRACES_EXPORTER="otlp", BSP_MAX_QUEUE_SIZE="1", BSP_MAX_EXPORT_BATCH_SIZE="9") is None
    assert "there are no traces: " in caplog.text


@pytest.mark.parametrize("fault", ["away", "500", "hangs"])
def test_a_collector_at_fault_holds_up_neither_spans_nor_the_end(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    caplog.set_level(logging.CRITICAL, "opentelemetry")
    url = f"http://127.0.0.1:{free_ports(1)[0]}" if fault == "away" else collector.url
    collector.status = 503 if fault == "500" else 200
    if fault == "hangs":
        collector.hang.set()
    traces = started(monkeypatch, EXPORTER_OTLP_ENDPOINT=url, BSP_SCHEDULE_DELAY="1")
    begun = time.monotonic()
    make_spans(traces)
    if fault != "away":
        wait_until(lambda: collector.asked > 0)
    make_spans(traces, 5000)  # more than the queue holds
    assert time.monotonic() - begun < 30
    begun = time.monotonic()
    make_spans(traces).stop(0.2)
    assert time.monotonic() - begun < 20
    collector.released.set()
