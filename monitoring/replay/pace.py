"""Waits until the service has made of a day what it makes of it in production, where a day takes longer."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx

from monitoring.replay.accelerated import QUALITY
from monitoring.replay.stack import ReplayError, Stack

POLL = 0.2  # s between two questions
JOB_POLL = 1.0  # s between two about a job: the training needs the machine
PATIENCE = 120.0  # s for each step but a job
DELIVERY_PATIENCE = 5.0  # s for what becomes of an alert; nothing is an outcome too
JOB_PATIENCE = 3600.0  # s for the jobs of a day
RETRAIN = "retrain"  # label of the alerts that ask for a retraining
OPEN = ("queued", "running")  # states of a job


class Pace:
    """Asks monitor and Prometheus how far they are.

    Args:
        stack: that runs.
    """

    def __init__(self, stack: Stack, client: httpx.Client) -> None:
        self._stack, self._client = stack, client
        self._known: list[int] = []

    def ingested(self, rows: int) -> None:
        """Wait until so many captured rows are in the store.

        Raises:
            ReplayError: they do not come.
        """
        name = 'monitor_events_total{result="new"}'
        _must(lambda: self._metric(name) >= rows, f"of {rows:,} captured rows some did not reach the monitor")

    def reacted(self) -> set[str]:
        """Wait until what is in the store was looked at, the rules have judged it, and what that asks for is done.

        Returns:
            The alerts that fired, of the version that was served and of the model as a whole.

        Raises:
            ReplayError: something does not come to its end.
        """
        now = time.time()
        _must(lambda: self._looked() > now, "Prometheus does not learn of the monitor's looks at the quality")
        now = time.time()
        _must(lambda: self._evaluated() > now, "Prometheus does not evaluate the rules of quality")
        firing = self._firing()
        champion = self._stack.champion()
        if any(labels.get(RETRAIN) == "on" and labels.get("version", champion) == champion for labels in firing):
            _wait(lambda: self._outcomes() != self._known, DELIVERY_PATIENCE)
        _must(self._all_closed, "a retraining does not end", JOB_PATIENCE, JOB_POLL)
        self._known = self._outcomes()
        return {labels["alertname"] for labels in firing if labels.get("version", champion) == champion}

    def jobs(self) -> list[dict[str, Any]]:
        """The model's retrainings, newest first."""
        return self._monitor("/jobs", 1000)

    def _all_closed(self) -> bool:
        return all(job["state"] not in OPEN for job in self._monitor("/jobs", 1))

    def _outcomes(self) -> list[int]:
        """Return the newest retraining and decision: what becomes of an alert is one or the other."""
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
        """When the look began that Prometheus knows of, in seconds since the epoch."""
        query = f'model_live_timestamp_seconds{{model="{self._stack.model}"}}'
        samples = self._prometheus("/api/v1/query", query=query)["result"]
        return float(samples[0]["value"][1]) if samples else 0.0

    def _evaluated(self) -> float:
        """When the rules of quality were last evaluated, in seconds since the epoch."""
        return datetime.fromisoformat(self._rules()["lastEvaluation"]).timestamp()

    def _firing(self) -> list[dict[str, str]]:
        """The labels of the model's alerts that fire."""
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
    """Whether a condition came true in time."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll)
    return True


def _must(condition: Callable[[], bool], otherwise: str, patience: float = PATIENCE, poll: float = POLL) -> None:
    if not _wait(condition, patience, poll):
        raise ReplayError(f"after {patience:.0f} s: {otherwise}")
