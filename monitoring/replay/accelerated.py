"""Copies of the configuration of Prometheus and Alertmanager that keep pace with a day in seconds.

Only the timing and the addresses differ from production: targets, rules and routes are its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serving.settings import ROOT

PROMETHEUS = ROOT / "monitoring" / "prometheus"
ALERTMANAGER = ROOT / "monitoring" / "alertmanager" / "alertmanager.yml"
INTERVAL = "1s"  # between scrapes, evaluations of quality, and notifications
QUALITY = "quality"  # the group of rules about rows; the others are about seconds, and keep their times


def write_prometheus(folder: Path, targets: Mapping[str, str]) -> Path:
    """Write the configuration and its rules into a folder, which is made; return the configuration's path.

    Args:
        targets: HOST:PORT by job; other jobs are left out.
    """
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    config["global"] |= {name: INTERVAL for name in config["global"] if name.endswith(("_interval", "_timeout"))}
    config["scrape_configs"] = [
        job | {"static_configs": [{"targets": [targets[job["job_name"]]]}]}
        for job in config["scrape_configs"]
        if job["job_name"] in targets
    ]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [targets["alertmanager"]]}]}]
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        rules = yaml.safe_load(path.read_text("utf-8"))
        for group in rules["groups"]:
            if group["name"] == QUALITY:
                _hasten(group)
        _write(folder / "rules" / path.name, rules)
    return _write(folder / "prometheus.yml", config)


def write_alertmanager(folder: Path, monitor: str) -> Path:
    """Write the configuration into a folder, which is made; return its path.

    Args:
        monitor: URL of the monitor, which needs no token.
    """
    config = yaml.safe_load(ALERTMANAGER.read_text("utf-8"))
    for route in (config["route"], *config["route"].get("routes", ())):
        # A day passes in seconds: repeat a firing alert at once, as production does within a day.
        route |= {"group_wait": "0s", "group_interval": INTERVAL, "repeat_interval": INTERVAL}
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            webhook["url"] = f"{monitor}/alerts"
            webhook.get("http_config", {}).pop("authorization", None)
    return _write(folder / "alertmanager.yml", config)


def _hasten(group: dict[str, Any]) -> None:
    group["interval"] = INTERVAL
    for rule in group["rules"]:
        rule.pop("for", None)


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
