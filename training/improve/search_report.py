"""The result of a hyperparameter search: as Markdown, and as a picture of its history and of what mattered."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from handlers.contract import Array
from handlers.contract.model_card import Number
from training.figures.picture import picture, plotted
from training.figures.result import Result, Row
from training.improve.budget import Spent
from training.statistics.criteria import more_is_better

BEST = "best trial"


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """A training of the comparison; the metric that decides is null where it went astray and made no number."""

    preset: str
    seed: int
    validation: Number
    test: Number
    seconds: float


class TrialRow(Row, frozen=True, kw_only=True):
    """A trial with its hyperparameters; ``value`` is the last epoch's, on the watched rows."""

    number: int
    state: str
    epochs: int
    value: Number
    seconds: float


class Search(Result, frozen=True, kw_only=True, tag="search"):
    """The result of a search.

    Attributes:
        metric: the one that decides.
        preset: the one that was searched around.
        found: hyperparameters that the best trial changes; the key set is open.
        hyperparameters: the preset with these.
        rows: the comparison, with seeds that the search has not used.
        importance: shares by hyperparameter; empty with too few trials.
        better: whether the best trial beats the preset on the watched rows.
    """

    heading = "Hyperparameter search"
    tables: ClassVar[Mapping[str, type[Row]]] = {"trials": TrialRow}

    metric: str
    budget: Spent
    preset: str
    found: dict[str, Any]
    hyperparameters: dict[str, Any]
    rows: list[Training]
    trials: list[TrialRow]
    importance: dict[str, float]
    better: bool

    def markdown(self) -> str:
        """Return the comparison, the values that were found and what mattered; shares in percent."""
        used, share = self.budget, self.metric == "accuracy"
        pruned = sum(trial.state == "pruned" for trial in self.trials)
        unit = f"{self.metric}, %" if share else self.metric
        lines = [
            f"{len(self.trials)} trials, {pruned} of them pruned, of {used.epochs} epochs on {used.rows:,} rows. Then "
            f"the preset `{self.preset}` and the best trial with {used.seeds} seeds that the search has not used, on "
            f"the same rows for as many epochs; {used.validation:,} rows watched, {used.test:,} held out.",
            "",
            f"| | {unit}, watched | held out | s |",
            "| --- | ---: | ---: | ---: |",
        ]
        scale = 100 if share else 1
        for name in (self.preset, BEST):
            rows = [row for row in self.rows if row.preset == name]
            columns = ([row.validation for row in rows], [row.test for row in rows])
            cells = [_with_spread(plotted(column), scale) for column in columns]
            lines.append(f"| {name} | {' | '.join(cells)} | {fmean(row.seconds for row in rows):.1f} |")
        gains = (_with_spread(gain(self.metric, self.rows, part), scale, "+") for part in ("validation", "test"))
        lines += [f"| better by, seed by seed | {' | '.join(gains)} | |", "", f"Found: {_values(self.found)}."]
        if self.importance:
            parts = (f"{name} {100 * weight:.0f} %" for name, weight in self.importance.items())
            lines.append(f"Share of the differences between complete trials that each explains: {', '.join(parts)}.")
        return "\n".join(lines) + "\n"


def gain(metric: str, rows: Sequence[Training], part: Literal["validation", "test"]) -> Array:
    """Return how much better the best trial is than the preset, seed by seed, on ``validation`` or ``test`` rows."""
    best, before = (
        plotted([getattr(row, part) for row in rows if (row.preset == BEST) is is_best]) for is_best in (True, False)
    )
    return best - before if more_is_better(metric) else before - best


def _with_spread(values: Array, scale: int, sign: str = "") -> str:
    if not np.isfinite(values).all():
        return "–"
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    digits = 2 if scale == 100 else 4
    return f"{scale * np.mean(values):{sign}.{digits}f} ± {scale * spread:.{digits}f}"


def _values(chosen: Mapping[str, Any]) -> str:
    shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in chosen.items()}
    return ", ".join(f"`{name}` {value}" for name, value in shown.items())


def draw_search(result: Search, path: Path) -> None:
    """Draw a result of `search` as PNG: each trial's value with the best so far, and the importances."""
    with picture(path, 12, 4.5, dpi=100) as figure:
        history, importance = figure.subplots(1, 2, width_ratios=(3, 2))
        for state, marker in (("complete", "o"), ("pruned", "x")):
            trials = [trial for trial in result.trials if trial.state == state]
            values = plotted([trial.value for trial in trials])
            history.scatter([trial.number for trial in trials], values, marker=marker, label=state)
        complete = [trial for trial in result.trials if trial.state == "complete"]
        better = max if more_is_better(result.metric) else min
        best = list(accumulate(plotted([trial.value for trial in complete]).tolist(), better))
        history.step([trial.number for trial in complete], best, where="post", color="grey", label="best so far")
        value = "loss" if result.metric == "rmse" else result.metric
        history.set(
            xlabel="trial (0 is the preset)", ylabel=f"{value} on the watched rows, last epoch", title="history"
        )
        history.legend(fontsize="small")
        history.grid(alpha=0.3)
        names = list(result.importance)
        importance.barh(range(len(names)), [100 * result.importance[name] for name in names])
        importance.set_yticks(range(len(names)), names)
        importance.invert_yaxis()
        importance.set(xlabel="% of the differences between complete trials (fANOVA)", title="importance")
        importance.grid(alpha=0.3, axis="x")
