"""The result of a replay, for ``docs/practices`` and as a picture."""

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path

from matplotlib.dates import DateFormatter, MonthLocator
from msgspec import UNSET

from monitoring.replay.drive import WEEK, DayErrors, Drive, Retrained, rmse
from training.figures.machine import machine
from training.figures.picture import picture
from training.improve.practices.monitored import Day, Goals, Month, Replay, Retraining

FELL = "ModelQualityFell"  # the alert that asks for a retraining
ARMS = {"frozen": ("#ee6677", "never retrained"), "loop": ("#4477aa", "on the loop")}
MARKS = {"promoted": ("^", "#228833"), "refused": ("X", "#ccbb44"), "rolled_back": ("v", "#aa3377")}


def result_of(drive: Drive, model: str, unit: str, share: float, settings: Mapping[str, str], seconds: float) -> Replay:
    """Return the result, also of a replay that was interrupted.

    Args:
        drive: has replayed at least one day.
        unit: unit of the model's answers.
        share: share of the rows that were sampled, 0 to 1.
        settings: settings of the loop, by variable.
        seconds: duration of the replay.
    """
    jobs = [_retraining(retrained) for _, retrained in sorted(drive.jobs.items())]
    months = groupby(drive.days, key=lambda day: f"{day.date:%Y-%m}")
    return Replay(
        run="make replay",
        model=model,
        seconds=seconds,
        machine=machine(),
        unit=unit,
        share=share,
        settings=dict(settings),
        since=f"{drive.days[0].date}",
        until=f"{drive.days[-1].date}",
        rows=[_month(name, list(days), jobs) for name, days in months],
        goals=_goals(drive.days, jobs),
        jobs=jobs,
        days=[_day(day) for day in drive.days],
    )


def draw_errors(result: Replay, path: Path) -> None:
    """Draw the weekly error of both arms, and the outcome of each retraining, as a PNG."""
    days = result.days
    weeks = [days[start : start + WEEK] for start in range(0, len(days), WEEK)]
    middles = [date.fromisoformat(week[len(week) // 2].date) for week in weeks]
    with picture(path, 10, 4.2, dpi=120) as figure:
        axes = figure.subplots()
        for arm, (color, label) in ARMS.items():
            values = [rmse([(day.rows, getattr(day, arm)) for day in week]) for week in weeks]
            axes.plot(middles, values, color=color, label=label, marker=".")  # type: ignore[arg-type]
        for state, (marker, color) in MARKS.items():
            when = [date.fromisoformat(job.day) for job in result.jobs if job.state == state]
            if when:
                label = f"retraining {state.replace('_', ' ')}"
                axes.plot(when, [0.5] * len(when), marker, color=color, label=label, clip_on=False)  # type: ignore[arg-type]
        axes.set(ylabel=f"RMSE of a week, {result.unit}", ylim=(0, None))
        axes.xaxis.set_major_locator(MonthLocator())  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_formatter(DateFormatter("%b"))  # type: ignore[no-untyped-call]
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, ncols=5)


def _retraining(retrained: Retrained) -> Retraining:
    job, result = retrained.job, retrained.job.result
    return Retraining(
        day=f"{retrained.day}",
        trigger=job.trigger,
        state=job.state,
        reason=job.reason,
        version=result.version or None,
        why=(result.verdict.reason if result.verdict else "") or result.error or None,
        undone=f"{retrained.undone}" if retrained.undone else UNSET,
    )


def _day(day: DayErrors) -> Day:
    return Day(
        date=f"{day.date}",
        rows=day.rows,
        frozen=round(day.frozen, 3),
        loop=round(day.loop, 3),
        champion=day.champion,
        alerts=list(day.alerts),
    )


def _month(name: str, days: Sequence[DayErrors], jobs: Sequence[Retraining]) -> Month:
    began = [job for job in jobs if job.day.startswith(name)]
    return Month(
        month=name,
        rows=sum(day.rows for day in days),
        frozen=round(rmse([(day.rows, day.frozen) for day in days]), 3),
        loop=round(rmse([(day.rows, day.loop) for day in days]), 3),
        days_with_alert=sum(FELL in day.alerts for day in days),
        retrainings=len(began),
        promoted=sum(job.state in ("promoted", "rolled_back") for job in began),
        refused=sum(job.state == "refused" for job in began),
        failed=sum(job.state in ("failed", "cancelled") for job in began),
        rolled_back=sum(str(job.undone).startswith(name) for job in jobs),
    )


def _goals(days: Sequence[DayErrors], jobs: Sequence[Retraining]) -> Goals:
    """Return the replay's goals: the share of error that the loop saves under drift, and its retrainings."""
    drifted = [day for day in days if 4 <= day.date.month <= 10]
    saved = None
    if drifted:
        frozen, loop = (rmse([(day.rows, getattr(day, arm)) for day in drifted]) for arm in ("frozen", "loop"))
        saved = round(1 - loop / frozen, 4)
    early, later = (sum(int(job.day[5:7]) in months for job in jobs) for months in (range(1, 3), range(3, 13)))
    return Goals(saved=saved, retrainings_known=early, retrainings=later)
