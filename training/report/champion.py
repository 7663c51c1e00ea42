"""The champion measured again, from its archive: the page and the figures of its training.

marloop report fashion
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
import torch
from msgspec import UNSET, UnsetType

from handlers.contract import Array, ModelContract
from handlers.contract.model_card import Calibration, Evaluation, Interval, Lead, Number
from handlers.engine import Engine, load_engine
from serving.registry import Registry
from training.champion import Champion, ChampionSource
from training.figures.machine import machine
from training.figures.result import Result, Row
from training.figures.text import figure, table
from training.packaging import export
from training.recipe import Split
from training.report import page
from training.statistics import evaluate


class ModelRow(Row, frozen=True, kw_only=True):
    """The metrics of the model, or of a baseline."""

    model: str


class SliceRow(ModelRow, frozen=True, kw_only=True):
    """The metrics on a slice of the held-out rows, of which there are ``held_out``; a baseline has no intervals."""

    slice: str
    held_out: int | None
    intervals: dict[str, Interval]


class Report(Result, frozen=True, kw_only=True, tag="report"):
    """The evaluation of a champion.

    Attributes:
        primary: the metric that decides.
        parity: as in ``Lineage``.
        rows: the model's, then each baseline's.
        slices: rows for each slice likewise; unset in a former version's.
        gains: advantage over each baseline.
        calibration: without bins; None without a temperature.
        given: whether the rows came with the command; unset where a recipe held them out.
    """

    heading = "Evaluation and calibration"
    tables: ClassVar[Mapping[str, type[Row]]] = {"rows": ModelRow, "slices": SliceRow}

    held_out: int | None
    primary: str
    fit_seconds: float | None
    parity: dict[str, int | float]
    rows: list[ModelRow]
    slices: list[SliceRow] | UnsetType = UNSET
    intervals: dict[str, Interval]
    gains: dict[str, Lead]
    calibration: Calibration | None
    given: bool | UnsetType = UNSET

    def markdown(self) -> str:
        """Return every metric of the model with its interval, beside the baselines'."""
        metrics = list(self.rows[0].figures)
        first, *others = self.rows
        rows = [[first.model, *(_cell(first.figures[name], self.intervals.get(name)) for name in metrics)]]
        rows += [[row.model, *(figure(row.figures[name]) for name in metrics)] for row in others]
        rows_name = "held-out" if self.given is UNSET else "given"
        notes = [f"95 % intervals in brackets, over {self.held_out:,} {rows_name} rows."]
        if (measured := self.calibration) and measured.scaled:
            notes.append(
                f"Calibration: ECE {figure(measured.ece)}, log loss {figure(measured.log_loss)}; with the "
                f"temperature {measured.temperature:.3f}, fitted on validation rows, "
                f"{figure(measured.scaled.ece)} and {figure(measured.scaled.log_loss)}."
            )
        by_slice = f"\n\n{_by_slice(self.slices)}" if self.slices else ""
        return f"{table(['model', *metrics], rows)}\n{' '.join(notes)}{by_slice}"


@dataclass(frozen=True)
class ChampionReport:
    """The contract of a champion, with the evaluation measured anew, the page about it, and the figures."""

    contract: ModelContract
    page: Path
    result: Report


def champion_report(source: ChampionSource, registry: Registry) -> ChampionReport:
    """Run the champion's graph over the held-out rows again and write its page.

    Raises:
        ArchiveError: there is no champion, or its archive is not as registered.
        DataError: the data cannot be had, or is not what the champion was trained on.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        champion = source.open(registry, Path(folder))
        contract, data, parts = champion.contract, champion.data, source.parts(registry)
        engine = load_engine(parts.serving.engine, Path(folder), contract, torch.get_num_threads())
        output = _output(champion, engine, data.test)
        watched = None if data.validation is None else _output(champion, engine, data.validation)
    evaluation = evaluate.held_out(champion.model, data, output, watched)
    contract = msgspec.structs.replace(contract, evaluation=evaluation)
    path = page.write_page(parts, contract, data, output, registry.store)
    return ChampionReport(contract, path, _result(contract, time.monotonic() - started))


def _by_slice(slices: Sequence[SliceRow]) -> str:
    """Return a second table, with each part of the held-out rows by itself."""
    metrics = list(slices[0].figures)
    rows = [
        [
            row.slice,
            f"{row.held_out:,}",
            row.model,
            *(_cell(row.figures[name], row.intervals.get(name)) for name in metrics),
        ]
        for row in slices
    ]
    return table(["slice", "rows", "model", *metrics], rows, right=(1,))


def _output(champion: Champion, engine: Engine, split: Split) -> Array:
    contract = champion.contract
    return export.run(champion.model, engine, split, contract.graph_outputs, contract.most_rows(100))


def _cell(value: Number, interval: Interval | None) -> str:
    return figure(value) + (f" ({figure(interval[0])} to {figure(interval[1])})" if interval else "")


def _result(contract: ModelContract, seconds: float) -> Report:
    evaluation, lineage = contract.evaluation, contract.lineage
    title = contract.name if lineage.imported else f"{contract.name}, preset {lineage.preset}"
    calibration = evaluation.calibration
    temperate = calibration is not None and calibration.temperature is not None
    return Report(
        model=contract.name,
        seconds=round(seconds, 1),
        machine=machine(),
        held_out=evaluation.rows,
        primary=evaluation.primary,
        fit_seconds=lineage.fit_seconds,
        parity=lineage.parity,
        rows=[ModelRow(model=name, figures=metrics) for name, metrics in evaluation.compared(title).items()],
        slices=[row for part in evaluation.slices.items() for row in _slice(title, *part)],
        intervals=evaluation.intervals or {},
        gains=evaluation.gains or {},
        calibration=msgspec.structs.replace(calibration, bins=[]) if calibration and temperate else None,
        given=True if lineage.imported else UNSET,
    )


def _slice(model: str, name: str, part: Evaluation) -> list[SliceRow]:
    """Return the rows of one slice: the model's, with intervals, then the baselines'."""
    return [
        SliceRow(
            slice=name,
            held_out=part.rows,
            model=other,
            figures=metrics,
            intervals=(part.intervals or {}) if other == model else {},
        )
        for other, metrics in part.compared(model).items()
    ]
