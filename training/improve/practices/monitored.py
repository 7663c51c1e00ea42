"""The tables of what the monitor measured: alarms of drift, and the replay of a year."""

from collections.abc import Mapping
from typing import Any

from training.figures.text import table

SAVED, MOST = 0.33, 15  # the goals: share of the error from April to October, retrainings from March to December
KINDS = ("features", "predictions", "errors")
COUNTS = ("days_with_alert", "retrainings", "promoted", "refused", "failed", "rolled_back")


def drift_markdown(result: Mapping[str, Any]) -> str:
    """The result of ``python -m monitoring calibrate``: the share of windows that alarm, in each period."""
    rows = [
        [row["period"], f"{row['windows']:,}", *(f"{row[name]:.1%}" for name in (*KINDS, "alarm"))]
        for row in result["rows"]
    ]
    return (
        f"{table(['windows from', 'windows', *KINDS, 'any'], rows)}\n"
        f"Share of windows of {result['window']:,} contiguous rows that alarm. Features, predictions and errors "
        f"share a level of {result['level']:.0%}. *Left out*: before it is tested, the window's rows are taken "
        "out of the reference and of what it learned is usual."
    )


def replay_markdown(result: Mapping[str, Any]) -> str:
    """The result of ``python -m monitoring replay``: both arms month by month, and whether the goals are met."""
    head = ["month", "rows", "RMSE, frozen", "RMSE, loop", *(name.replace("_", " ") for name in COUNTS)]
    rows = [
        [row["month"], f"{row['rows']:,}", f"{row['frozen']:.2f}", f"{row['loop']:.2f}", *(str(row[n]) for n in COUNTS)]
        for row in result["rows"]
    ]
    return "\n".join([table(head, rows), *replay_goals(result)])


def replay_goals(result: Mapping[str, Any]) -> list[str]:
    """A line for each goal; none for one about months that the replay did not live through."""
    measured, months = result["goals"], {int(row["month"][5:7]) for row in result["rows"]}
    saved, known, later = (measured[name] for name in ("saved", "retrainings_known", "retrainings"))
    lines = []
    if saved is not None:
        text = f"The loop's error from April to October is {saved:.1%} lower than the frozen version's"
        lines.append((text, f"{SAVED:.0%}", saved >= SAVED))
    if months & set(range(3, 13)):
        lines.append((f"{later} retrainings from March to December", f"at most {MOST}", later <= MOST))
    if months & {1, 2}:
        lines.append((f"{known} retrainings in January and February", "none", known == 0))
    return [f"- {text}; the goal is {goal}: {'met' if met else '**not met**'}." for text, goal, met in lines]
