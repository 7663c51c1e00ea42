"""How the result of ``python -m monitoring replay`` is shown."""

from collections.abc import Mapping
from typing import Any

SAVED, MOST = 0.33, 15  # the goals: share of the error from April to October, retrainings from March to December
COUNTS = ("days_with_alert", "retrainings", "promoted", "refused", "failed", "rolled_back")


def markdown(result: Mapping[str, Any]) -> str:
    """Both arms month by month, and whether the goals are met."""
    names = ("month", "rows", "RMSE, frozen", "RMSE, loop", *(name.replace("_", " ") for name in COUNTS))
    lines = [f"| {' | '.join(names)} |", "| --- |" + " --- |" * (len(names) - 1)]
    for row in result["rows"]:
        cells = [row["month"], f"{row['rows']:,}", f"{row['frozen']:.2f}", f"{row['loop']:.2f}"]
        lines.append(f"| {' | '.join([*cells, *(str(row[name]) for name in COUNTS)])} |")
    return "\n".join([*lines, "", *goals(result)])


def goals(result: Mapping[str, Any]) -> list[str]:
    """A line for each goal; what the replay did not live through is not told."""
    found, months = result["goals"], {row["month"][5:7] for row in result["rows"]}
    lines = []
    if found["saved"] is not None:
        said = f"The loop's error from April to October is {found['saved']:.1%} lower than the frozen version's"
        lines.append(f"- {said}; the goal is {SAVED:.0%}: {_met(found['saved'] >= SAVED)}.")
    if months & {f"{month:02}" for month in range(3, 13)}:
        said = f"{found['retrainings']} retrainings from March to December"
        lines.append(f"- {said}; the goal is at most {MOST}: {_met(found['retrainings'] <= MOST)}.")
    if months & {"01", "02"}:
        said = f"{found['retrainings_known']} retrainings in January and February"
        lines.append(f"- {said}; the goal is none: {_met(found['retrainings_known'] == 0)}.")
    return lines


def _met(met: bool) -> str:
    return "met" if met else "**not met**"
