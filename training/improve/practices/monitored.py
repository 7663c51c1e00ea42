"""The monitor's results: alarms of drift, and the replay of a year."""

import msgspec
from msgspec import UNSET, UnsetType

from training.figures.result import Result
from training.figures.text import table

SAVED, MOST = 0.33, 15  # the goals: share of the error from April to October, retrainings from March to December
KINDS = ("features", "predictions", "errors")
COUNTS = ("days_with_alert", "retrainings", "promoted", "refused", "failed", "rolled_back")


class AlarmsRow(msgspec.Struct, frozen=True, kw_only=True):
    """The shares of a period's windows that alarm, by kind and in any kind."""

    period: str
    windows: int
    features: float
    predictions: float
    errors: float
    alarm: float


class DriftAlarms(Result, frozen=True, kw_only=True, tag="drift"):
    """The frequency of drift alarms, in windows of ``window`` contiguous rows, at a level of significance."""

    heading = "Alarms of drift"

    version: str
    window: int
    level: float
    rows: list[AlarmsRow]

    def markdown(self) -> str:
        """Return the share of windows that alarm, in each period."""
        rows = [
            [row.period, f"{row.windows:,}", *(f"{getattr(row, name):.1%}" for name in (*KINDS, "alarm"))]
            for row in self.rows
        ]
        return (
            f"{table(['windows from', 'windows', *KINDS, 'any'], rows)}\n"
            f"Share of windows of {self.window:,} contiguous rows that alarm. Features, predictions and errors "
            f"share a level of {self.level:.0%}. *Left out*: before it is tested, the window's rows are taken "
            "out of the reference and of what it learned is usual."
        )


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """The RMSE of a month, never retrained and on the loop, and what happened in it."""

    month: str
    rows: int
    frozen: float
    loop: float
    days_with_alert: int
    retrainings: int
    promoted: int
    refused: int
    failed: int
    rolled_back: int


class Goals(msgspec.Struct, frozen=True, kw_only=True):
    """The figures that the replay's goals are about.

    Attributes:
        saved: share of the error from April to October; None where no arm lived then.
        retrainings_known: number in January and February.
        retrainings: number from March to December.
    """

    saved: float | None
    retrainings_known: int
    retrainings: int


class Retraining(msgspec.Struct, frozen=True, kw_only=True):
    """A retraining: the day on which it began, its cause and its outcome; ``undone`` is the day of its rollback."""

    day: str
    trigger: str
    state: str
    reason: str
    version: str | None
    why: str | None
    undone: str | UnsetType = UNSET


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A day: the RMSE of both arms, the version that served, and the alerts that fired."""

    date: str
    rows: int
    frozen: float
    loop: float
    champion: str
    alerts: list[str]


class Replay(Result, frozen=True, kw_only=True, tag="replay"):
    """A year of the whole service, month by month and day by day.

    Attributes:
        unit: the errors' unit.
        share: share of the rows that were drawn.
        settings: the loop's settings by variable.
        since: the first day that was replayed; ``until``, the last.
    """

    heading = "The closed loop"

    unit: str
    share: float
    settings: dict[str, str]
    since: str
    until: str
    rows: list[Month]
    goals: Goals
    jobs: list[Retraining]
    days: list[Day]

    def markdown(self) -> str:
        """Return both arms month by month, and whether the goals are met."""
        head = ["month", "rows", "RMSE, frozen", "RMSE, loop", *(name.replace("_", " ") for name in COUNTS)]
        rows = [
            [
                row.month,
                f"{row.rows:,}",
                f"{row.frozen:.2f}",
                f"{row.loop:.2f}",
                *(str(getattr(row, name)) for name in COUNTS),
            ]
            for row in self.rows
        ]
        return "\n".join([table(head, rows), *replay_goals(self)])


def replay_goals(result: Replay) -> list[str]:
    """Return a line for each goal, except those about months that the replay did not cover."""
    measured, months = result.goals, {int(row.month[5:7]) for row in result.rows}
    lines = []
    if (saved := measured.saved) is not None:
        text = f"The loop's error from April to October is {saved:.1%} lower than the frozen version's"
        lines.append((text, f"{SAVED:.0%}", saved >= SAVED))
    if months & set(range(3, 13)):
        later = measured.retrainings
        lines.append((f"{later} retrainings from March to December", f"at most {MOST}", later <= MOST))
    if months & {1, 2}:
        early = measured.retrainings_known
        lines.append((f"{early} retrainings in January and February", "none", early == 0))
    return [f"- {text}; the goal is {goal}: {'met' if met else '**not met**'}." for text, goal, met in lines]
