"""Waits until the service has reacted to a day, for which production has more time."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import msgspec

from monitoring.replay.accelerated import QUALITY
from monitoring.replay.stack import ReplayError, Stack
from monitoring.store.records import Job

POLL = 0.2  # s between two requests
JOB_POLL = 1.0  # s between two requests about a job: the training needs the machine
PATIENCE = 120.0  # s for each step but a job
DELIVERY_PATIENCE = 5.0  # s for the effect of an alert, which may have none
JOB_PATIENCE = 3600.0  # s for the jobs of a day
RETRAIN = "retrain"  # label of the alerts that ask for a retraining
OPEN = ("queued", "running")  # states of a job


class Pace:
    """Polls monitor and Prometheus, and waits for them."""

    def __init__(self, stack: Stack, client: httpx.Client) -> None:
        self._stack, self._client = stack, client
        self._last: list[int] = []  # outcomes at the end of the day before

    def ingested(self, rows: int) -> None:
        """Wait until ``rows`` captured rows are in the store.

        Raises:
            ReplayError: they do not come.
        """
        name = 'monitor_events_total{result="new"}'
        _must(lambda: self._metric(name) >= rows, f"of {rows:,} captured rows some did not reach the monitor")

    def reacted(self) -> set[str]:
        """Wait until the monitor has looked at the rows, the rules have judged them, and no retraining is under way.

        Returns:
            The alerts that fired, of the version that was served and of the model as a whole.

        Raises:
            ReplayError: a step takes too long.
        """
        now = time.time()
        _must(lambda: self._looked() > now, "Prometheus does not learn of the monitor's looks at the quality")
        now = time.time()
        _must(lambda: self._evaluated() > now, "Prometheus does not evaluate the rules of quality")
        firing = self._firing()
        champion = self._stack.champion()
        if any(labels.get(RETRAIN) == "on" and labels.get("version", champion) == champion for labels in firing):
            _wait(lambda: self._outcomes() != self._last, DELIVERY_PATIENCE)
        _must(self._all_closed, "a retraining does not end", JOB_PATIENCE, JOB_POLL)
        self._last = self._outcomes()
        return {labels["alertname"] for labels in firing if labels.get("version", champion) == champion}

    def jobs(self) -> list[Job]:
        """Return the model's retrainings, newest first."""
        return msgspec.convert(self._monitor("/jobs", 1000), list[Job])

    def _all_closed(self) -> bool:
        return all(job["state"] not in OPEN for job in self._monitor("/jobs", 1))

    def _outcomes(self) -> list[int]:
        """Return the ids of the newest retraining and decision: an alert leads to one or the other."""
        return [entry["id"] for path in ("/jobs", "/decisions") for entry in self._monitor(path, 1)]

    def _monitor(self, path: str, limit: int) -> list[dict[str, Any]]:
        url = self._stack.settings.monitor_url + path
        params: dict[str, str | int] = {"model": self._stack.model, "limit": limit}
        entries: list[dict[str, Any]] = self._client.get(url, params=params).raise_for_status().json()
        return entries

    def _metric(self, name: str) -> float:
        text = self._client.get(f"{self._stack.settings.monitor_url}/metrics").raise_for_status().text
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)

    def _looked(self) -> float:
        """Return the begin of the newest look that Prometheus has scraped, in seconds since the epoch."""
        query = f'model_live_timestamp_seconds{{model="{self._stack.model}"}}'
        samples = self._prometheus("/api/v1/query", query=query)["result"]
        return float(samples[0]["value"][1]) if samples else 0.0

    def _evaluated(self) -> float:
        """Return the time of the last evaluation of the rules of quality, in seconds since the epoch."""
        return datetime.fromisoformat(self._rules()["lastEvaluation"]).timestamp()

    def _firing(self) -> list[dict[str, str]]:
        """Return the labels of the model's firing alerts."""
        alerts = [alert for rule in self._rules()["rules"] for alert in rule["alerts"]]
        return [
            alert["labels"]
            for alert in alerts
            if alert["state"] == "firing" and alert["labels"].get("model") == self._stack.model
        ]

    def _rules(self) -> Any:
        groups = self._prometheus("/api/v1/rules", type="alert")["groups"]
        return next(group for group in groups if group["name"] == QUALITY)

    def _prometheus(self, path: str, **params: str) -> Any:
        return self._client.get(self._stack.prometheus + path, params=params).raise_for_status().json()["data"]


def _wait(condition: Callable[[], bool], patience: float, poll: float = POLL) -> bool:
    """Wait for a condition, and return whether it came true in time."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll)
    return True


def _must(condition: Callable[[], bool], otherwise: str, patience: float = PATIENCE, poll: float = POLL) -> None:
    if not _wait(condition, patience, poll):
        raise ReplayError(f"after {patience:.0f} s: {otherwise}")
