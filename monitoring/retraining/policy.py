"""When models are retrained, from what, and what a promotion is watched for; ``.env.example`` has the variables."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any


@dataclass(frozen=True)
class RetrainPolicy:
    """What a retraining learns from, and how often there is one.

    Attributes:
        enabled: whether anything but a hand may ask for one.
        age: of the labelled rows that it learns from, at most.
        most_rows: and how many, the newest.
        hold_out: share of them, the newest, that the judge decides on.
        rows: fewer labelled rows than this are not worth it.
        cooldown: after a retraining, triggers but that by hand wait.
        per_day: retrainings of each model in 24 hours at most, but by hand.
        every: the schedule; zero for none.
        limit: a training that takes longer is ended.
    """

    enabled: bool = True
    age: timedelta = timedelta(days=28)
    most_rows: int = 100_000
    hold_out: float = 0.1
    rows: int = 1000
    cooldown: timedelta = timedelta(hours=24)
    per_day: int = 4
    every: timedelta = timedelta(0)
    limit: timedelta = timedelta(minutes=60)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "RetrainPolicy":
        """Read the variables ``MARLOOP_RETRAIN…``; empty ones are unset.

        Raises:
            ValueError: one is out of its range; names the variable.
        """
        name = "MARLOOP_RETRAIN"
        switch = environ.get(name) or "on"
        if switch not in ("on", "off"):
            raise ValueError(f"{name} is {switch!r}; it must be on or off")
        return cls(
            enabled=switch == "on",
            age=timedelta(days=number(environ, f"{name}_DAYS", cls.age.days, 0.001, 36_500)),
            most_rows=whole(environ, f"{name}_MOST_ROWS", cls.most_rows, 10),
            hold_out=number(environ, f"{name}_HOLDOUT", cls.hold_out, 0.01, 0.9),
            rows=whole(environ, f"{name}_ROWS", cls.rows, 10),
            cooldown=_hours(environ, f"{name}_COOLDOWN_HOURS", cls.cooldown),
            per_day=whole(environ, f"{name}_PER_DAY", cls.per_day, 1),
            every=_hours(environ, f"{name}_EVERY_HOURS", cls.every),
            limit=timedelta(minutes=number(environ, f"{name}_LIMIT_MINUTES", 60, 0.01, 100_000)),
        )

    def enough_for(self, held_out: int) -> "RetrainPolicy":
        """With so many rows at least that this many of them are held out: with fewer, no judge would decide."""
        return replace(self, rows=max(self.rows, math.ceil(held_out / self.hold_out)))


@dataclass(frozen=True)
class JudgePolicy:
    """What a challenger must be.

    Attributes:
        margin: share of the champion's error that it must be better by.
        confidence: with which it must be, and with which a slice must be too bad to count.
        slice_tolerance: share of the champion's error that a slice may be worse by.
        latency: times the champion's that its latency may be.
        rows: that are needed for a verdict.
        class_rows: that are needed of each class of a classification; 0: none.
    """

    margin: float = 0.0
    confidence: float = 0.95
    slice_tolerance: float = 0.1
    latency: float = 1.2
    rows: int = 200
    class_rows: int = 10

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "JudgePolicy":
        """Read ``MARLOOP_JUDGE_MARGIN``, ``…_SLICE_TOLERANCE``, ``…_LATENCY`` and ``…_CLASS_ROWS``; empty: unset.

        Raises:
            ValueError: one is out of range; names the variable.
        """
        return cls(
            margin=number(environ, "MARLOOP_JUDGE_MARGIN", cls.margin, 0, 1),
            slice_tolerance=number(environ, "MARLOOP_JUDGE_SLICE_TOLERANCE", cls.slice_tolerance, 0, 10),
            latency=number(environ, "MARLOOP_JUDGE_LATENCY", cls.latency, 0.1, 100),
            class_rows=whole(environ, "MARLOOP_JUDGE_CLASS_ROWS", cls.class_rows, 0),
        )


@dataclass(frozen=True)
class WatchPolicy:
    """How long a promotion can be taken back by itself, and from when on the new version's error counts.

    Attributes:
        age: of the promotion, at most; zero for never.
        rows: labelled rows of the new version before its error is judged.
    """

    age: timedelta = timedelta(hours=24)
    rows: int = 200

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "WatchPolicy":
        """Read ``MARLOOP_WATCH_HOURS`` and ``MARLOOP_WATCH_ROWS``; empty ones are unset.

        Raises:
            ValueError: one is out of its range; names the variable.
        """
        age = _hours(environ, "MARLOOP_WATCH_HOURS", cls.age)
        return cls(age, whole(environ, "MARLOOP_WATCH_ROWS", cls.rows, 10))


def shadow_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """What ``MARLOOP_SHADOW_REQUESTS`` and ``MARLOOP_JUDGE_LATENCY`` say of a ``ShadowPolicy``.

    Raises:
        ValueError: one is out of its range; names the variable.
    """
    return {
        "requests": whole(environ, "MARLOOP_SHADOW_REQUESTS", 200, 0),
        "latency": number(environ, "MARLOOP_JUDGE_LATENCY", 1.2, 1, 1000),
    }


def number(environ: Mapping[str, str], variable: str, default: float, low: float, high: float) -> float:
    """A variable's number; the default where it is empty.

    Raises:
        ValueError: it is none, or out of its range; names the variable.
    """
    text = environ.get(variable) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"{variable} is {text!r}; it must be a number from {low:g} to {high:g}")
    return value


def whole(environ: Mapping[str, str], variable: str, default: int, low: int) -> int:
    """A variable's whole number, under a thousand million; the default where it is empty.

    Raises:
        ValueError: it is none, or out of its range; names the variable.
    """
    text = environ.get(variable) or str(default)
    if not (text.isascii() and text.isdecimal() and low <= int(text) < 10**9):
        raise ValueError(f"{variable} is {text!r}; it must be a whole number from {low} to 999999999")
    return int(text)


def _hours(environ: Mapping[str, str], variable: str, default: timedelta) -> timedelta:
    return timedelta(hours=number(environ, variable, default / timedelta(hours=1), 0, 24 * 3660))
