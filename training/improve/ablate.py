"""The worth of each training practice: a plain start, then one practice at a time, then together, over seeds.

marloop ablate fashion
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import msgspec
import numpy as np

from handlers.contract import Array
from handlers.contract.model_card import Number
from serving.settings import Folders
from training.figures.machine import machine
from training.figures.picture import plotted
from training.figures.result import Result
from training.figures.text import table
from training.improve.budget import Budget, Spent, load_thinned, spent
from training.improve.sharing.results import results_of
from training.improve.sharing.runs import Run, Runs
from training.improve.variants import Changes, practices, together
from training.recipe import Recipe

START = "start"
PARTS = ("train", "validation", "test")
WATCHED = 2_000  # validation rows, at most: they are gone through after every epoch


class AblationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A variant, the mean of its seeds; null where a training that went astray made no number.

    Attributes:
        changes: the start's hyperparameters that differ.
        seconds: duration of fitting.
        train: the metric that decides, on the fitted rows; likewise ``validation`` and ``test``.
        gap: advantage of the fitted rows over the held-out ones.
        difference: difference to the start, on the held-out rows, seed by seed.
    """

    start: str
    practice: str
    changes: str
    epochs: float
    seconds: float
    train: Number
    validation: Number
    test: Number
    test_spread: Number
    gap: Number
    difference: Number
    difference_spread: Number


class Curve(msgspec.Struct, frozen=True):
    """A variant's learning curve, the mean of its seeds."""

    start: str
    practice: str
    values: list[Number]


class Ablation(Result, frozen=True, kw_only=True, tag="ablate"):
    """The worth of each practice; a row and a curve for each variant.

    Attributes:
        seconds: duration of all fitting.
        metric: the one that decides.
        starts: descriptions by name.
        rows: the first of each start is the start itself.
    """

    heading = "Training practices, one at a time"

    metric: str
    budget: Spent
    starts: dict[str, str]
    rows: list[AblationRow]
    curves: list[Curve]

    def markdown(self) -> str:
        """Return the tables, one a start; shares in percent."""
        used, share = self.budget, self.metric == "accuracy"
        unit = f"{self.metric}, %" if share else self.metric
        parts = [
            f"{used.rows:,} rows to learn from, {used.validation:,} watched, {used.test:,} held out; mean ± "
            f"standard deviation over {used.seeds} seeds. The difference to the start is taken seed by seed. The gap "
            "is how much better the fitted rows do than the held-out ones. What is done together was chosen on the "
            "watched rows."
        ]
        for start, description in self.starts.items():
            head = (f"from `{start}`", "changes", f"test {unit}", "to the start", "gap", "epochs", "s")
            rows = [_cells(row, 100 if share else 1) for row in self.rows if row.start == start]
            parts += [*([f"{description}\n"] if description else []), table(head, rows, range(2, len(head)))]
        return "\n".join([f"{parts[0]}\n", *parts[1:]])


def ablate(
    recipe: Recipe[Any],
    folders: Folders,
    budget: Budget,
    starts: Sequence[str] = (),
    only: Sequence[str] = (),
    step: Callable[[str], None] = lambda text: None,
    url: str = "",
) -> Ablation:
    """Measure the practices that apply to a model's hyperparameters.

    Args:
        folders: finished runs are kept there, where there is no URL; the same call goes on from them.
        starts: presets to start from; none for the recipe's own.
        only: measure only practices with one of these texts in their names, and nothing together.
        url: of the PostgreSQL in which workers on several machines share their runs; empty for files.

    Raises:
        KeyError: no such preset.
        DataError: the data cannot be had.
        OutOfTimeError: before all was measured.
        ValueError: no practice has such a name, or the rows do not tell the metric that decides.
        SQLAlchemyError: the shared database does not answer; see ``database.reachable``.
    """
    until = budget.clock() + budget.timeout
    results = results_of("ablate", recipe.name, folders.runs, url)
    variants: list[tuple[str, str, Changes, list[Run]]] = []
    for name in starts or recipe.starts or [next(iter(recipe.presets))]:
        hp = recipe.preset(name)
        hp = replace(hp, epochs=budget.epochs or hp.epochs)
        data = load_thinned(recipe, hp, folders.cache, budget.rows, WATCHED)
        source = Runs(recipe, data, budget, results, until, step)
        variants += [(name, *variant) for variant in _variants(source, name, hp, only)]
    return Ablation(
        model=recipe.name,
        seconds=round(sum(run.seconds for *_, variant in variants for run in variant), 1),
        machine=machine(),
        metric=recipe.scoring.criterion.name,
        budget=spent(data, budget.seeds),
        starts={name: recipe.starts.get(name, "") for name in dict.fromkeys(name for name, *_ in variants)},
        rows=_rows(recipe, variants),
        curves=[Curve(start, practice, _mean_curve(runs)) for start, practice, _, runs in variants],
    )


def _variants(source: Runs, start: str, hp: Any, only: Sequence[str]) -> Iterator[tuple[str, Changes, list[Run]]]:
    every = practices(hp, source.recipe.task)
    chosen = {name: change for name, change in every.items() if not only or any(text in name for text in only)}
    if not chosen:
        raise ValueError(f"no practice has {' or '.join(map(repr, only))} in its name; there are {', '.join(every)}")
    labels = {START: f"{start}, as it is"} | {name: f"{start}, {name}" for name in chosen}
    variants: dict[str, Changes] = {START: {}, **chosen}
    runs = source.of({labels[name]: replace(hp, **changes) for name, changes in variants.items()})
    reference = runs[labels[START]]
    yield START, {}, reference
    sign = 1 if source.recipe.scoring.criterion.more else -1
    gains = {}
    for name, changes in chosen.items():
        gains[name] = sign * float(np.mean(_differences(reference, runs[labels[name]], "validation")))
        yield name, changes, runs[labels[name]]
    combined = {} if only else together(chosen, gains)
    runs = source.of({f"{start}, {name}": replace(hp, **changes) for name, changes in combined.items()})
    for name, changes in combined.items():
        yield name, changes, runs[f"{start}, {name}"]


def _rows(recipe: Recipe[Any], variants: Sequence[tuple[str, str, Changes, list[Run]]]) -> list[AblationRow]:
    starts = {start: runs for start, name, _, runs in variants if name == START}
    sign = 1 if recipe.scoring.criterion.more else -1
    rows = []
    for start, name, changes, runs in variants:
        train, validation, test = (plotted([getattr(run, part) for run in runs]) for part in PARTS)
        differences = _differences(starts[start], runs, "test")
        row = AblationRow(
            start=start,
            practice=name,
            changes=", ".join(f"{k}={v}" for k, v in changes.items()),
            epochs=fmean(run.epochs for run in runs),
            seconds=fmean(run.seconds for run in runs),
            train=float(train.mean()),
            validation=float(validation.mean()),
            test=float(test.mean()),
            test_spread=_spread(test),
            gap=float(np.mean(sign * (train - test))),
            difference=float(differences.mean()),
            difference_spread=_spread(differences),
        )
        rows.append(row)
    return rows


def _differences(reference: Sequence[Run], runs: Sequence[Run], part: str) -> Array:
    """Return the differences of runs to those of the start with the same seed, on a part of the rows."""
    before, after = (plotted([getattr(run, part) for run in group]) for group in (reference, runs))
    return after - before


def _spread(values: Array) -> float:
    """Return the standard deviation over seeds; 0 with a single seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _mean_curve(runs: Sequence[Run]) -> list[Number]:
    """Return the mean over seeds, up to the last epoch that all of them had."""
    return [float(np.mean(plotted(values))) for values in zip(*(run.curve for run in runs), strict=False)]


def _cells(row: AblationRow, scale: int) -> list[str]:
    digits = 2 if scale == 100 else 4

    def text(value: Number, sign: str = "") -> str:
        return "–" if value is None or value != value else f"{scale * value:{sign}.{digits}f}"

    difference = f"{text(row.difference, '+')} ± {text(row.difference_spread)}"
    return [
        row.practice,
        f"`{row.changes}`" if row.changes else "",
        f"{text(row.test)} ± {text(row.test_spread)}",
        "" if row.practice == START else difference,
        text(row.gap, "+"),
        f"{row.epochs:.1f}",
        f"{row.seconds:.1f}",
    ]
