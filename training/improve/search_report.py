"""What a hyperparameter search found: as Markdown, and as a picture of its history and of what mattered."""

import math
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from training.figures.picture import picture
from training.statistics.criteria import more_is_better

BEST = "best trial"


def gain(result: Mapping[str, Any], part: str) -> list[float]:
    """By how much the best trial is better than the preset, seed by seed, on ``validation`` or ``test`` rows."""
    best = [_number(row[part]) for row in result["rows"] if row["preset"] == BEST]
    before = [_number(row[part]) for row in result["rows"] if row["preset"] != BEST]
    sign = 1 if more_is_better(result["metric"]) else -1
    return [sign * (b - a) for a, b in zip(before, best, strict=True)]


def markdown(result: Mapping[str, Any]) -> str:
    """The comparison of a result, the values that were found and what mattered; shares in percent."""
    used, trials = result["budget"], result["trials"]
    pruned = sum(trial["state"] == "pruned" for trial in trials)
    share = result["metric"] == "accuracy"
    unit = f"{result['metric']}, %" if share else result["metric"]
    lines = [
        f"{len(trials)} trials, {pruned} of them pruned, of {used['epochs']} epochs on {used['rows']:,} rows. Then the "
        f"preset `{result['preset']}` and the best trial with {used['seeds']} seeds that the search has not used, on "
        f"the same rows for as many epochs; {used['validation']:,} rows watched, {used['test']:,} held out.",
        "",
        f"| | {unit}, watched | held out | s |",
        "| --- | ---: | ---: | ---: |",
    ]
    scale = 100 if share else 1
    for name in (result["preset"], BEST):
        rows = [row for row in result["rows"] if row["preset"] == name]
        cells = [_with_spread([_number(row[part]) for row in rows], scale) for part in ("validation", "test")]
        lines.append(f"| {name} | {' | '.join(cells)} | {fmean(row['seconds'] for row in rows):.1f} |")
    gains = (_with_spread(gain(result, part), scale, "+") for part in ("validation", "test"))
    lines += [f"| better by, seed by seed | {' | '.join(gains)} | |", "", f"Found: {_values(result['found'])}."]
    if result["importance"]:
        parts = (f"{name} {100 * weight:.0f} %" for name, weight in result["importance"].items())
        lines.append(f"Share of the differences between complete trials that each explains: {', '.join(parts)}.")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> float:
    """A file has null for what is no number."""
    return math.nan if value is None else value


def _with_spread(values: list[float], scale: int, sign: str = "") -> str:
    if not all(map(math.isfinite, values)):
        return "–"
    spread = stdev(values) if len(values) > 1 else 0.0
    digits = 2 if scale == 100 else 4
    return f"{scale * fmean(values):{sign}.{digits}f} ± {scale * spread:.{digits}f}"


def _values(found: Mapping[str, Any]) -> str:
    shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in found.items()}
    return ", ".join(f"`{name}` {value}" for name, value in shown.items())


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw a result of `search` as PNG: each trial's value with the best so far, and the importances."""
    with picture(path, 12, 4.5, dpi=100) as figure:
        history, importance = figure.subplots(1, 2, width_ratios=(3, 2))
        for state, marker in (("complete", "o"), ("pruned", "x")):
            trials = [trial for trial in result["trials"] if trial["state"] == state]
            values = [_number(trial["value"]) for trial in trials]
            history.scatter([trial["number"] for trial in trials], values, marker=marker, label=state)
        complete = [trial for trial in result["trials"] if trial["state"] == "complete"]
        better = max if more_is_better(result["metric"]) else min
        best = list(accumulate((_number(trial["value"]) for trial in complete), better))
        history.step([trial["number"] for trial in complete], best, where="post", color="grey", label="best so far")
        what = "loss" if result["metric"] == "rmse" else result["metric"]
        history.set(xlabel="trial (0 is the preset)", ylabel=f"{what} on the watched rows, last epoch", title="history")
        history.legend(fontsize="small")
        history.grid(alpha=0.3)
        names = list(result["importance"])
        importance.barh(range(len(names)), [100 * result["importance"][name] for name in names])
        importance.set_yticks(range(len(names)), names)
        importance.invert_yaxis()
        importance.set(xlabel="% of the differences between complete trials (fANOVA)", title="importance")
        importance.grid(alpha=0.3, axis="x")
