"""The drive through the days: requests to both arms hour by hour, feedback a day late, and waits for reactions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

import httpx
import numpy as np

from handlers.contract import Array
from handlers.observe.capture import SWITCH, TIME
from monitoring.replay.days import Day, Hour
from monitoring.replay.pace import Pace
from monitoring.replay.stack import ReplayError, Stack
from monitoring.store.records import Job

WEEK = 7  # days between two lines of progress


@dataclass(frozen=True)
class DayErrors:
    """Errors of both arms on one day.

    Attributes:
        frozen: mean squared error of the version that is never retrained.
        loop: mean squared error of the service on the loop.
        champion: version on the loop at the end of the day.
        alerts: names of the model's alerts that fired then.
    """

    date: date
    rows: int
    frozen: float
    loop: float
    champion: str
    alerts: tuple[str, ...]


class Retrained(NamedTuple):
    """A retraining.

    Attributes:
        job: as the monitor's API returns it.
        day: of its begin.
        undone: the day on which it was rolled back.
    """

    job: Job
    day: date
    undone: date | None = None


@dataclass
class Drive:
    """Replays days one after another.

    Attributes:
        pace: waits for the stack.
        say: prints a line every week.
        days: the days so far.
        jobs: the retrainings so far by id.
    """

    stack: Stack
    client: httpx.Client
    pace: Pace
    say: Callable[[str], None]
    days: list[DayErrors] = field(default_factory=list)
    jobs: dict[int, Retrained] = field(default_factory=dict)

    def run(self, days: Iterable[Day]) -> None:
        """Replay the days one after another.

        Raises:
            ReplayError: the service fails, or does not keep up.
        """
        rows, yesterday = 0, None
        for day in days:
            frozen = self._squared_error(day, self.stack.frozen, {SWITCH: "off"})
            loop = self._squared_error(day, self.stack.model)
            rows += day.rows
            self.pace.ingested(rows)
            if yesterday is not None:
                self._send_labels(yesterday)
            yesterday = day
            alerts = self.pace.reacted()
            self._note_jobs(day.date)
            self.days.append(DayErrors(day.date, day.rows, frozen, loop, self.stack.champion(), tuple(sorted(alerts))))
            if len(self.days) % WEEK == 0:
                self.say(self._week())

    def _squared_error(self, day: Day, model: str, headers: Mapping[str, str] | None = None) -> float:
        """Send a day's rows to a model, and return the mean squared error of its answers."""
        answers = [self._answers(model, hour, headers or {}) for hour in day.hours]
        errors = np.concatenate(answers) - np.concatenate([hour.labels for hour in day.hours])
        return float(np.mean(errors**2))

    def _answers(self, model: str, hour: Hour, headers: Mapping[str, str]) -> Array:
        url = f"{self.stack.settings.inference_url}/v1/models/{model}:predict"
        named = {"X-Request-Id": hour.request_id, TIME: hour.time.isoformat(), **headers}
        return np.array(self._post(url, {"instances": hour.instances}, named)["predictions"], np.float64)

    def _send_labels(self, day: Day) -> None:
        """Send the truth about a day's rows as feedback."""
        labels = [
            {"request_id": hour.request_id, "row": row, "label": label}
            for hour in day.hours
            for row, label in enumerate(hour.labels.tolist())
        ]
        self._post(f"{self.stack.settings.monitor_url}/feedback", labels)

    def _post(self, url: str, content: Any, headers: Mapping[str, str] | None = None) -> Any:
        response = self.client.post(url, json=content, headers=headers)
        if response.is_error:
            raise ReplayError(f"{url} answers {response.status_code}: {response.text[:500]}")
        return response.json()

    def _note_jobs(self, today: date) -> None:
        for job in self.pace.jobs():
            _, day, undone = self.jobs.get(job.id, Retrained(job, today))
            self.jobs[job.id] = Retrained(job, day, undone or (today if job.state == "rolled_back" else None))

    def _week(self) -> str:
        week = self.days[-WEEK:]
        frozen, loop = (rmse([(day.rows, getattr(day, arm)) for day in week]) for arm in ("frozen", "loop"))
        states = [retrained.job.state for _, retrained in sorted(self.jobs.items())]
        listed = f"; retrainings: {', '.join(states)}" if states else ""
        errors = f"rmse {frozen:6.2f} frozen, {loop:6.2f} on the loop"
        return f"{week[-1].date}  {errors}, served {week[-1].champion}{listed}"


def rmse(days: Iterable[tuple[int, float]]) -> float:
    """Return the root mean squared error over days, each its number of rows and its mean squared error."""
    rows, means = zip(*days, strict=True)
    return float(np.sqrt(np.average(means, weights=rows)))
