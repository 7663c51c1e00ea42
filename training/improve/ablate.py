"""The worth of each training practice: a plain start, then one practice at a time, then together, over seeds.

marloop ablate fashion
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
import numpy as np

from handlers.contract import Array
from handlers.contract.model_card import Number
from serving import documents
from serving.settings import Folders
from training import fit
from training.figures.machine import machine
from training.figures.picture import plotted
from training.figures.result import Result
from training.figures.text import table
from training.improve.budget import Budget, Spent, load_thinned, measure, spent, watch
from training.improve.variants import Changes, practices, together
from training.recipe import Data, Recipe

START = "start"
PARTS = ("train", "validation", "test")
WATCHED = 2_000  # validation rows, at most: they are gone through after every epoch


class Run(msgspec.Struct, frozen=True):
    """A training of one variant with one seed; its file is read again when an ablation goes on.

    Attributes:
        seconds: duration of fitting.
        train: the metric that decides, on the fitted rows; null where a training went astray. Likewise ``validation``
            on the watched rows, and ``test`` on the held-out ones.
        curve: the metric on the watched rows after each epoch, or their loss where RMSE decides.
    """

    seed: int
    epochs: int
    seconds: float
    train: Number
    validation: Number
    test: Number
    curve: list[Number]


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


class OutOfTimeError(Exception):
    """The time is over; the finished runs stay in their files."""


@dataclass(frozen=True)
class Runs:
    """The runs of an ablation: each is read from its file, or trained while there is time."""

    recipe: Recipe[Any]
    data: Data
    budget: Budget
    folder: Path
    until: float  # on the budget's clock
    step: Callable[[str], None]

    def of(self, label: str, hp: Any) -> list[Run]:
        """Return a run for each seed.

        Raises:
            OutOfTimeError: no time is left for one that has no file.
        """
        return [self._run(f"{label}, seed {seed}", replace(hp, seed=seed)) for seed in range(self.budget.seeds)]

    def _run(self, label: str, hp: Any) -> Run:
        sizes = [len(self.data.train), len(self.data.validation or [])]
        inputs = [asdict(hp), self.data.sha256, sizes, *filter(None, [self.recipe.scoring.key])]
        key = msgspec.json.encode(inputs, order="sorted")
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hashlib.sha256(key).hexdigest()[:16]}.json"
        finished: Run | None = documents.read_kept(path, Run)
        if finished is not None:
            return finished
        if self.budget.clock() >= self.until:
            raise OutOfTimeError
        run = self._train(hp)
        documents.write_json(path, run, Run)
        self.step(f"{label}: {run.test:.4f} held out, {run.train:.4f} fitted, {run.seconds:.0f} s")
        return run

    def _train(self, hp: Any) -> Run:
        watched, callbacks = watch(self.recipe)
        with tempfile.TemporaryDirectory() as checkpoints:
            trained = fit.fit(self.recipe, hp, self.data, Path(checkpoints), callbacks=callbacks)
        assert self.data.validation
        parts = (self.data.train, self.data.validation, self.data.test)
        train, validation, test = (measure(trained, part) for part in parts)
        curve: list[Number] = [entry[watched] for entry in trained.history]
        return Run(hp.seed, len(curve), trained.seconds, train, validation, test, curve)


def ablate(
    recipe: Recipe[Any],
    folders: Folders,
    budget: Budget,
    starts: Sequence[str] = (),
    only: Sequence[str] = (),
    step: Callable[[str], None] = lambda text: None,
) -> Ablation:
    """Measure the practices that apply to a model's hyperparameters.

    Args:
        folders: finished runs are kept there; the same call goes on from them.
        starts: presets to start from; none for the recipe's own.
        only: measure only practices with one of these texts in their names, and nothing together.

    Raises:
        KeyError: no such preset.
        DataError: the data cannot be had.
        OutOfTimeError: before all was measured.
        ValueError: no practice has such a name, or the rows do not tell the metric that decides.
    """
    until = budget.clock() + budget.timeout
    variants: list[tuple[str, str, Changes, list[Run]]] = []
    for name in starts or recipe.starts or [next(iter(recipe.presets))]:
        hp = recipe.preset(name)
        hp = replace(hp, epochs=budget.epochs or hp.epochs)
        data = load_thinned(recipe, hp, folders.cache, budget.rows, WATCHED)
        source = Runs(recipe, data, budget, folders.runs / "ablate" / recipe.name, until, step)
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
    reference = source.of(f"{start}, as it is", hp)
    yield START, {}, reference
    sign = 1 if source.recipe.scoring.criterion.more else -1
    gains = {}
    for name, changes in chosen.items():
        runs = source.of(f"{start}, {name}", replace(hp, **changes))
        gains[name] = sign * float(np.mean(_differences(reference, runs, "validation")))
        yield name, changes, runs
    for name, changes in ({} if only else together(chosen, gains)).items():
        yield name, changes, source.of(f"{start}, {name}", replace(hp, **changes))


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
