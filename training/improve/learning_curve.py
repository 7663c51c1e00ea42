"""The worth of pretraining on little data: the same network, pretrained and from nothing, on ever more rows.

marloop learning-curve sentiment --metric polarity
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from rich.console import Console

from handlers.contract.model_card import Evaluation
from serving import documents
from serving.settings import Folders
from training.figures.machine import machine
from training.figures.picture import picture, plotted
from training.figures.result import Result, Row
from training.figures.text import figure, table, terminal_table
from training.fitting import fit
from training.packaging import export
from training.recipe import Recipe
from training.statistics import evaluate

STARTS: dict[str, dict[str, Any]] = {"pretrained": {"pretrained": True}, "from scratch": {"pretrained": False}}
SIZES = (100, 500, 2_000)
STEPS = 190  # least steps of a run: three times through the most rows, sixty times through the fewest


class CurveRow(Row, frozen=True, kw_only=True):
    """The metrics of a run on one slice of ``held_out`` rows, whose name is empty where there are no slices."""

    start: str
    rows: int
    epochs: int
    seconds: float
    slice: str
    held_out: int | None


class BaselineRow(Row, frozen=True, kw_only=True):
    """The metrics of a baseline on one slice."""

    baseline: str
    slice: str


class LearningCurve(Result, frozen=True, kw_only=True, tag="learning-curve"):
    """The worth of ever more rows.

    Attributes:
        seconds: duration of all runs.
        metric: the one that is shown.
        steps: least steps of a run.
        hyperparameters: the preset's; the key set is open.
    """

    heading = "What pretraining is worth"
    tables: ClassVar[Mapping[str, type[Row]]] = {"rows": CurveRow, "baselines": BaselineRow}

    metric: str
    steps: int
    hyperparameters: dict[str, Any]
    rows: list[CurveRow]
    baselines: list[BaselineRow]

    def cells(self) -> list[list[str]]:
        """Return the metric of each run and of each baseline, a column for each slice; the first row is the heading."""
        metric = self.metric
        slices = list(dict.fromkeys(row.slice for row in self.rows))
        lines: dict[tuple[str, ...], list[str]] = {}
        for row in self.rows:
            run = (row.start, f"{row.rows:,}", str(row.epochs), f"{row.seconds:.0f}")
            lines.setdefault(run, []).append(figure(row.figures[metric]))
        for baseline in self.baselines:
            lines.setdefault((baseline.baseline, "", "", ""), []).append(figure(baseline.figures[metric]))
        heading = ["start", "rows", "epochs", "s", *(f"{metric}, {name}" if name else metric for name in slices)]
        return [heading, *([*run, *values] for run, values in lines.items())]

    def markdown(self) -> str:
        """Return the table."""
        heading, *lines = self.cells()
        held_out = ", ".join(dict.fromkeys(f"{row.held_out:,} {row.slice}".strip() for row in self.rows))
        note = f"Of each run the same network, at least {self.steps} steps, and the same held-out rows: {held_out}."
        return f"{table(heading, lines, range(1, len(heading)))}\n{note}"


@dataclass(frozen=True)
class CurveOptions:
    """The choices of a learning curve.

    Attributes:
        preset: gives the hyperparameters but rows and epochs; None for the default.
        sizes: numbers of training rows.
        metric: the one that is shown; None for the one that decides.
        steps: least steps of a run, so that few rows are not also trained for less.
    """

    preset: str | None = None
    sizes: Sequence[int] = SIZES
    metric: str | None = None
    steps: int = STEPS


def learning_curve(
    recipe: Recipe[Any], folders: Folders, options: CurveOptions, step: Callable[[str], None] = lambda text: None
) -> LearningCurve:
    """Train on some rows and measure on all held-out rows, for each size and start.

    A curve that was interrupted goes on: each finished run is kept in the folder of runs until all are.

    Args:
        recipe: its hyperparameters have ``rows``; with ``pretrained`` among them both starts are compared.

    Raises:
        KeyError: no such preset.
        DataError: the data cannot be had.
        ValueError: the recipe's number of rows cannot be chosen, or there is no such metric.
    """
    hp, metric = recipe.preset(options.preset), options.metric
    names = {field.name for field in fields(hp)}
    if "rows" not in names:
        raise ValueError(f"{recipe.name} has no hyperparameter `rows`, so that its training data cannot be thinned")
    paths, finished = [], []
    for start, run in _plan(hp, options, STARTS if "pretrained" in names else {"": {}}):
        step(f"{run.rows:,} rows {start}, {run.epochs} epochs")
        paths.append(folders.runs / recipe.name / f"curve-{_key(recipe, run)}.json")
        result = _run(recipe, run, folders, paths[-1])
        metric = _metric(result.evaluation, metric)
        finished.append((start, run, result))
    for path in paths:
        path.unlink(missing_ok=True)
    assert metric
    return LearningCurve(
        model=recipe.name,
        seconds=round(sum(result.seconds for *_, result in finished), 1),
        machine=machine(),
        metric=metric,
        steps=options.steps,
        hyperparameters=asdict(hp),
        rows=[row for start, run, result in finished for row in _rows(start, run, result)],
        baselines=_baselines(finished[-1][-1].evaluation),
    )


def _plan(hp: Any, options: CurveOptions, starts: Mapping[str, dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return the start of each run, and its hyperparameters."""
    epochs = {size: max(hp.epochs, -(-options.steps // -(-size // hp.batch_size))) for size in options.sizes}
    return [
        (start, replace(hp, rows=size, epochs=epochs[size], **changes))
        for size in options.sizes
        for start, changes in starts.items()
    ]


def _key(recipe: Recipe[Any], hp: Any) -> str:
    decides = {"decides": key} if (key := recipe.scoring.key) else {}
    return hashlib.sha256(msgspec.json.encode(asdict(hp) | decides, order="sorted")).hexdigest()[:16]


class _Run(msgspec.Struct, frozen=True):
    """A finished run: its duration, and its evaluation on the held-out rows."""

    seconds: float
    evaluation: Evaluation


def _run(recipe: Recipe[Any], hp: Any, folders: Folders, path: Path) -> _Run:
    earlier: _Run | None = documents.read_kept(path, _Run)
    if earlier is not None:
        return earlier
    started = time.monotonic()
    data = replace(recipe.load(hp, folders.cache), validation=None)
    trained = fit.fit(recipe, hp, data, folders.runs)
    output = export.predict(export.serving_module(trained), data.test)
    evaluation = evaluate.held_out(recipe, data, output)
    run = _Run(round(time.monotonic() - started, 1), evaluation)
    path.parent.mkdir(parents=True, exist_ok=True)
    documents.write_json(path, run, _Run)
    return run


def _metric(evaluation: Evaluation, metric: str | None) -> str:
    if metric is not None and metric not in evaluation.metrics:
        raise ValueError(f"there is no metric {metric!r}; there are {', '.join(evaluation.metrics)}")
    return metric or evaluation.primary


def _parts(evaluation: Evaluation) -> Mapping[str, Evaluation]:
    """Return an evaluation's slices by name, or the whole under an empty name."""
    return evaluation.slices or {"": evaluation}


def _rows(start: str, hp: Any, run: _Run) -> list[CurveRow]:
    return [
        CurveRow(
            start=start,
            rows=hp.rows,
            epochs=hp.epochs,
            seconds=run.seconds,
            slice=name,
            held_out=part.rows,
            figures=part.metrics,
        )
        for name, part in _parts(run.evaluation).items()
    ]


def _baselines(evaluation: Evaluation) -> list[BaselineRow]:
    return [
        BaselineRow(baseline=baseline, slice=name, figures=(part.baselines or {})[baseline])
        for baseline in evaluation.baselines or {}
        for name, part in _parts(evaluation).items()
    ]


def print_curve(curve: LearningCurve, console: Console) -> None:
    """Print one metric of each run, and of the baselines, by slice."""
    heading, *lines = curve.cells()
    console.print(terminal_table("learning curve", heading, lines))


def draw_curve(curve: LearningCurve, path: Path) -> None:
    """Draw the curve as PNG, a panel for each slice."""
    metric, rows = curve.metric, curve.rows
    names = list(dict.fromkeys(row.slice for row in rows))
    with picture(path, 1.5 + 3.5 * len(names), 4) as image:
        for axes, name in zip(image.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
            for start in dict.fromkeys(row.start for row in rows):
                line = [row for row in rows if (row.start, row.slice) == (start, name)]
                heights = plotted([row.figures[metric] for row in line])
                axes.plot([row.rows for row in line], heights, marker="o", label=start)
            for i, row in enumerate(row for row in curve.baselines if row.slice == name):
                style = ("--", ":", "-.")[i % 3]
                axes.axhline(row.figures[metric], color="grey", linestyle=style, label=row.baseline)
            axes.set(title=name, xscale="log", xlabel="training rows")
            axes.set_xticks(sorted({row.rows for row in rows}), minor=False)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.grid(alpha=0.3)
        image.axes[0].set_ylabel(metric)
        image.axes[-1].legend(fontsize="small")
