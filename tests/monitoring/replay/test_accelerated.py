"""The replay's copies of the configuration: the repository's own but for timing and addresses."""

from pathlib import Path
from typing import Any

import yaml

from monitoring.replay.accelerated import ALERTMANAGER, PROMETHEUS, QUALITY, write_alertmanager, write_prometheus
from tests.support.monitoring.programs import need, run

TARGETS = {job: f"127.0.0.1:{port}" for port, job in enumerate(("torchserve", "monitor", "alertmanager"), 1000)}
Rules = dict[str, Any]


def rules(folder: Path) -> dict[str, Rules]:
    """Groups by name."""
    files = [yaml.safe_load(path.read_text()) for path in (folder / "rules").glob("*.yml")]
    return {group["name"]: group for file in files for group in file["groups"]}


def test_the_programs_take_the_copies(tmp_path: Path) -> None:
    config = write_prometheus(tmp_path, TARGETS)
    run(need("promtool"), "check", "config", str(config))
    run(need("amtool"), "check-config", str(write_alertmanager(tmp_path, "http://127.0.0.1:1")))


def test_what_runs_here_is_scraped_every_second_and_nothing_else(tmp_path: Path) -> None:
    config = yaml.safe_load(write_prometheus(tmp_path, TARGETS).read_text())
    scraped = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert scraped == {job: [target] for job, target in TARGETS.items()}
    assert config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == [TARGETS["alertmanager"]]
    assert set(config["global"].values()) == {"1s"}


def test_of_the_rules_only_the_timing_of_quality_differs(tmp_path: Path) -> None:
    write_prometheus(tmp_path, TARGETS)
    own, copied = rules(PROMETHEUS), rules(tmp_path)
    assert copied.keys() == own.keys()
    for name, group in own.items():
        if name == QUALITY:
            group |= {"interval": "1s", "rules": [{k: v for k, v in r.items() if k != "for"} for r in group["rules"]]}
        assert copied[name] == group


def test_alerts_reach_the_monitor_at_once_and_without_a_token(tmp_path: Path) -> None:
    config = yaml.safe_load(write_alertmanager(tmp_path, "http://127.0.0.1:8").read_text())
    own = yaml.safe_load(ALERTMANAGER.read_text())
    assert config["inhibit_rules"] == own["inhibit_rules"]
    (webhook,) = config["receivers"][0]["webhook_configs"]
    assert webhook["url"] == "http://127.0.0.1:8/alerts"
    assert "authorization" not in webhook.get("http_config", {})
    for route in (config["route"], *config["route"]["routes"]):
        assert (route["group_wait"], route["group_interval"], route["repeat_interval"]) == ("0s", "1s", "1s")
