"""Lives the days: requests to both arms hour by hour, feedback a day late, and time for the service to react."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import httpx
import numpy as np

from handlers.contract import Array
from handlers.observe.capture import SWITCH, TIME
from monitoring.replay.days import Day, Hour
from monitoring.replay.pace import Pace
from monitoring.replay.stack import ReplayError, Stack

WEEK = 7  # days between two lines of progress


@dataclass(frozen=True)
class Lived:
    """What came of one day.

    Attributes:
        rows: that were asked.
        frozen: mean squared error of the version that stays.
        loop: that of the service on the loop.
        champion: its version when the day was over.
        alerts: of the model, that fired then.
    """

    date: date
    rows: int
    frozen: float
    loop: float
    champion: str
    alerts: tuple[str, ...]


@dataclass
class Drive:
    """Lives days one after another.

    Attributes:
        stack: that runs.
        client: of httpx.
        pace: waits for the stack.
        say: is told every week what happened.
        lived: the days so far.
        jobs: the retrainings so far by id, as the monitor tells them, with the ``day`` on which each began, and the
            day on which it was ``undone``.
    """

    stack: Stack
    client: httpx.Client
    pace: Pace
    say: Callable[[str], None]
    lived: list[Lived] = field(default_factory=list)
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)

    def run(self, days: Iterable[Day]) -> None:
        """Live the days one after another.

        Raises:
            ReplayError: the service fails, or does not keep up.
        """
        rows, before = 0, None
        for day in days:
            frozen = self._ask(day, self.stack.frozen, {SWITCH: "off"})
            loop = self._ask(day, self.stack.model)
            rows += day.rows
            self.pace.ingested(rows)
            if before is not None:
                self._tell(before)
            before = day
            alerts = self.pace.reacted()
            self._note_jobs(day.date)
            self.lived.append(Lived(day.date, day.rows, frozen, loop, self.stack.champion(), tuple(sorted(alerts))))
            if len(self.lived) % WEEK == 0:
                self.say(self._week())

    def _ask(self, day: Day, model: str, headers: Mapping[str, str] | None = None) -> float:
        """The mean squared error of the answers to a day's rows."""
        answers = [self._answers(model, hour, headers or {}) for hour in day.hours]
        errors = np.concatenate(answers) - np.concatenate([hour.labels for hour in day.hours])
        return float(np.mean(errors**2))

    def _answers(self, model: str, hour: Hour, headers: Mapping[str, str]) -> Array:
        url = f"{self.stack.settings.inference_url}/v1/models/{model}:predict"
        named = {"X-Request-Id": hour.request_id, TIME: hour.time.isoformat(), **headers}
        return np.array(self._post(url, {"instances": hour.instances}, named)["predictions"], np.float64)

    def _tell(self, day: Day) -> None:
        """The truth about a day's rows."""
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
            noted = self.jobs.setdefault(job["id"], {"day": today}) | job
            if job["state"] == "rolled_back":
                noted.setdefault("undone", today)
            self.jobs[job["id"]] = noted

    def _week(self) -> str:
        week = self.lived[-WEEK:]
        frozen, loop = (rmse([(day.rows, getattr(day, arm)) for day in week]) for arm in ("frozen", "loop"))
        states = [job["state"] for _, job in sorted(self.jobs.items())]
        listed = f"; retrainings: {', '.join(states)}" if states else ""
        errors = f"rmse {frozen:6.2f} frozen, {loop:6.2f} on the loop"
        return f"{week[-1].date}  {errors}, served {week[-1].champion}{listed}"


def rmse(days: Iterable[tuple[int, float]]) -> float:
    """The root of the mean squared error over days, told by their rows and their own mean."""
    rows, means = zip(*days, strict=True)
    return float(np.sqrt(np.average(means, weights=rows)))
