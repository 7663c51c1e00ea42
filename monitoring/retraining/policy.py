"""Policies of the loop: retraining, judging a new version, and the watch over a promotion."""

import math
from datetime import timedelta
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from handlers.observe.settings import MOST, EnvironmentSettings, says, variables

Hours = Annotated[float, Meta(ge=0, le=24 * 3660)]


class RetrainPolicy(EnvironmentSettings, frozen=True, rename=variables("RETRAIN_")):
    """Rows that a retraining learns from, and how often there is one."""

    enabled: Annotated[
        bool,
        says(
            "on: the monitor retrains a model on the original data and the labelled rows when an alert or the "
            "schedule says so. off: by hand alone."
        ),
    ] = msgspec.field(default=True, name="MARLOOP_RETRAIN")
    days: Annotated[
        float, says("Greatest age in days of the labelled rows that a retraining learns from.", ge=0.001, le=36_500)
    ] = 28
    most_rows: Annotated[
        int, says("How many labelled rows a retraining learns from at most, the newest.", ge=10, le=MOST)
    ] = 100_000
    holdout: Annotated[
        float,
        says(
            "Share of these rows, the newest, that are not learned: the new version is judged on them.", ge=0.01, le=0.9
        ),
    ] = 0.1
    rows: Annotated[int, says("With fewer labelled rows than this, no retraining.", ge=10, le=MOST)] = 1000
    cooldown_hours: Annotated[
        Hours, says("Hours since a model's last retraining, before which there is none but by hand.")
    ] = 24
    per_day: Annotated[
        int, says("How many retrainings a model has in 24 hours at most, but those by hand.", ge=1, le=MOST)
    ] = 4
    every_hours: Annotated[Hours, says("Hours between two retrainings on a schedule; 0: no schedule.")] = 0
    limit_minutes: Annotated[float, says("Minutes after which a training is ended.", ge=0.01, le=100_000)] = 60

    @property
    def age(self) -> timedelta:
        """Return the greatest age of the labelled rows."""
        return timedelta(days=self.days)

    @property
    def cooldown(self) -> timedelta:
        """Return the time after a retraining in which only a request by hand starts another."""
        return timedelta(hours=self.cooldown_hours)

    @property
    def every(self) -> timedelta:
        """Return the interval of the schedule; zero for none."""
        return timedelta(hours=self.every_hours)

    @property
    def limit(self) -> timedelta:
        """Return the time that a training may take."""
        return timedelta(minutes=self.limit_minutes)

    def enough_for(self, held_out: int) -> "RetrainPolicy":
        """Return the policy with ``rows`` raised so that at least ``held_out`` rows are held out for the judge."""
        return msgspec.structs.replace(self, rows=max(self.rows, math.ceil(held_out / self.holdout)))


class JudgePolicy(EnvironmentSettings, frozen=True, rename=variables("JUDGE_")):
    """Conditions for the promotion of a new version.

    Attributes:
        confidence: confidence that it is better, and that a slice is too bad.
        rows: labelled rows that a verdict needs.
    """

    confidence: ClassVar[float] = 0.95
    rows: ClassVar[int] = 200
    margin: Annotated[
        float, says("A new version is promoted only if it is better by this share of the champion's error.", ge=0, le=1)
    ] = 0
    slice_tolerance: Annotated[
        float, says("No slice may be worse by more than this share of the champion's error.", ge=0, le=10)
    ] = 0.1
    latency: Annotated[
        float,
        says(
            "A new version may be slower than the champion by this factor, in the judge's hands and when both are "
            "served.",
            ge=1,
            le=100,
        ),
    ] = 1.2
    class_rows: Annotated[
        int,
        says(
            "Labelled rows that are held out of each class of a classification: fewer do not tell whether it is still "
            "recognised.",
            ge=0,
            le=MOST,
        ),
    ] = 10
    agreement: Annotated[
        float,
        says(
            "Share of recent requests that a challenger must answer as the champion does where no labelled rows "
            "decide.",
            ge=0,
            le=1,
        ),
    ] = 0.5
    shadow_requests: Annotated[
        int, says("Recent requests that are sent to a new version before its promotion; 0: none.", ge=0, le=MOST)
    ] = msgspec.field(default=200, name="MARLOOP_SHADOW_REQUESTS")


class WatchPolicy(EnvironmentSettings, frozen=True, rename=variables("WATCH_")):
    """Time in which a promotion can be rolled back automatically."""

    hours: Annotated[
        Hours,
        says(
            "For how many hours after a promotion a worse error, latency or share of failures rolls it back; 0: never."
        ),
    ] = 24
    rows: Annotated[
        int, says("Labelled rows of the new version that are needed to judge its error.", ge=10, le=MOST)
    ] = 200

    @property
    def age(self) -> timedelta:
        """Return the greatest age of a promotion that is watched; zero for none."""
        return timedelta(hours=self.hours)
