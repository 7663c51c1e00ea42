"""Alertmanager's configuration, and in a real Alertmanager: who is told the cause is not told the symptoms."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.ports import free_ports
from serving.settings import ROOT
from tests.support.monitoring.programs import alertmanager, need, run
from tests.support.sinks import sink
from tests.support.waiting import wait_until

CONFIG = ROOT / "monitoring" / "alertmanager" / "alertmanager.yml"
MODEL = {"model": "flights", "version": "1.0"}


def test_the_configuration_is_valid_and_sends_everything_to_the_monitor() -> None:
    amtool = need("amtool")
    run(amtool, "check-config", str(CONFIG))
    for severity in ("critical", "warning"):
        told = run(amtool, "config", "routes", "test", f"--config.file={CONFIG}", f"severity={severity}")
        assert told.strip() == "monitor"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """Of a real Alertmanager with the configuration, but nobody to tell."""
    config = tmp_path / "alertmanager.yml"
    config.write_text(CONFIG.read_text().replace("http://monitor:8090", "http://127.0.0.1:1"))
    with alertmanager(config, *free_ports(1)) as running:
        yield running


def states(client: httpx.Client, alerts: list[dict[str, str]]) -> dict[str, str]:
    """What becomes of alerts that fire together, by name."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    client.post("/api/v2/alerts", json=[{"labels": labels, "startsAt": now} for labels in alerts]).raise_for_status()
    found: list[dict[str, Any]] = []

    def processed() -> bool:
        found[:] = client.get("/api/v2/alerts").json()
        return len(found) == len(alerts) and all(one["status"]["state"] != "unprocessed" for one in found)

    wait_until(processed)
    return {one["labels"]["alertname"]: one["status"]["state"] for one in found}


CASES: list[tuple[list[dict[str, str]], set[str]]] = [
    (
        [
            {"alertname": "TargetDown", "job": "torchserve"},
            {"alertname": "ModelNotAnswering"} | MODEL,
            {"alertname": "ErrorBudgetBurnFast", "scope": "service"},
            {"alertname": "QueueGrowing", "model": "flights"},
            {"alertname": "ExporterDown", "job": "exporter"},
        ],
        {"TargetDown", "ExporterDown"},
    ),
    (
        [
            {"alertname": "ModelNotAnswering"} | MODEL,
            {"alertname": "ErrorBudgetBurnFast", "scope": "model"} | MODEL,
            {"alertname": "ProbeLatencyOverObjective", "model": "fashion", "version": "1.0"},
            {"alertname": "ErrorBudgetBurnSlow", "scope": "service"},
        ],
        {"ModelNotAnswering", "ProbeLatencyOverObjective", "ErrorBudgetBurnSlow"},
    ),
    (
        [
            {"alertname": "ErrorBudgetBurnFast", "scope": "service"},
            {"alertname": "ErrorBudgetBurnSlow", "scope": "service"},
            {"alertname": "WorkerLatencyOverObjective"} | MODEL,
            {"alertname": "ProbeLatencyOverObjective"} | MODEL,
        ],
        {"ErrorBudgetBurnFast", "WorkerLatencyOverObjective"},
    ),
    ([{"alertname": "TargetDown", "job": "monitor"}, {"alertname": "ProbeMissing"}], {"TargetDown"}),
    (
        [{"alertname": "TargetDown", "job": "alertmanager"}, {"alertname": "ProbeMissing"}],
        {"TargetDown", "ProbeMissing"},
    ),
]


@pytest.mark.parametrize(("alerts", "told"), CASES)
def test_a_cause_silences_its_symptoms_and_nothing_else(
    client: httpx.Client, alerts: list[dict[str, str]], told: set[str]
) -> None:
    found = states(client, alerts)
    assert {name for name, state in found.items() if state == "active"} == told


def test_the_monitor_is_told_with_the_token_of_the_credentials_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-monitor\n")
    with sink() as monitor:
        text = CONFIG.read_text().replace("http://monitor:8090/alerts", monitor.url)
        text = text.replace("/run/secrets/marloop_token", str(tmp_path / "token")).replace("wait: 10s", "wait: 0s")
        config = tmp_path / "alertmanager.yml"
        config.write_text(text)
        with alertmanager(config, *free_ports(1)) as client:
            states(client, [{"alertname": "ModelQualityFell", "severity": "critical"} | MODEL])
            wait_until(lambda: bool(monitor.bodies))
    assert monitor.headers[0]["authorization"] == "Bearer of-the-monitor"
    assert [alert["labels"]["alertname"] for alert in monitor.bodies[0]["alerts"]] == ["ModelQualityFell"]
