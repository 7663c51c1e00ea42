"""Prometheus' configuration, rules and alerts, checked by its own programs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from handlers.language.telemetry import FIRST
from handlers.observe.telemetry import SECONDS
from monitoring.api.alerts import RETRAIN
from serving.settings import ROOT
from tests.support.monitoring.programs import need, run

FOLDER = ROOT / "monitoring" / "prometheus"
JOBS = {"torchserve", "exporter", "monitor", "prometheus", "alertmanager", "locust"}


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules" / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_configuration_and_its_rules_are_valid() -> None:
    run(need("promtool"), "check", "config", str(FOLDER / "prometheus.yml"))


@pytest.mark.parametrize("path", sorted((FOLDER / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_only_then(path: Path) -> None:
    run(need("promtool"), "test", "rules", str(path))


def test_every_alert_has_a_case() -> None:
    cases = "".join(path.read_text() for path in (FOLDER / "tests").glob("*.yml"))
    for rule in rules("alerts.yml"):
        assert f'ALERTS{{alertname="{rule["alert"]}", alertstate="firing", severity=' in cases, rule["alert"]


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    for rule in rules("alerts.yml"):
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert set(rule["labels"]) - {RETRAIN} == {"severity"}


def test_a_model_whose_quality_fell_or_whose_errors_drift_is_to_be_retrained() -> None:
    asks = {rule["alert"]: rule["labels"][RETRAIN] for rule in rules("alerts.yml") if RETRAIN in rule["labels"]}
    assert asks == {"ModelQualityFell": "on", "ModelDrift": '{{ if eq $labels.kind "errors" }}on{{ else }}off{{ end }}'}


def test_the_rules_count_slow_requests_by_the_objective_which_is_a_bucket() -> None:
    expressions = {rule["record"]: rule["expr"] for rule in rules("objectives.yml") + rules("recording.yml")}
    objective = float(expressions["objective:latency_p99:seconds"].removeprefix("vector(").removesuffix(")"))
    assert objective in SECONDS
    for name in ("model_version:model_requests_slow:increase30m", "model_version:probes_slow:increase30m"):
        assert f'le="{objective}"' in expressions[name]
    first = float(expressions["objective:time_to_first_token_p95:seconds"].removeprefix("vector(").removesuffix(")"))
    assert first in FIRST
    assert f'le="{first}"' in expressions["model_version:llm_first_tokens_slow:increase30m"]


def test_rates_are_summed_up_at_the_interval_at_which_they_are_recorded() -> None:
    groups = yaml.safe_load((FOLDER / "rules" / "recording.yml").read_text())["groups"]
    (slo,) = [group for group in groups if group["name"] == "slo"]
    for rule in rules("alerts.yml"):
        if rule["alert"].startswith("ErrorBudget"):
            assert rule["expr"].count(f") * {slo['interval'].removesuffix('s')} >= ") == 2


def test_the_services_are_scraped_by_their_names() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert {job["job_name"] for job in config["scrape_configs"]} == JOBS
